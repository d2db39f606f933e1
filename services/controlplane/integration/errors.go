package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"skep/services/controlplane"
)

var (
	// ErrRefused: the address of a request is none that credentials, or this
	// server, may go to.
	ErrRefused = errors.New("address refused")
	// ErrTooLarge: an answer is longer than the client takes.
	ErrTooLarge = errors.New("answer too large")
)

// StatusError is an answer that is no success. It is controlplane.ErrNotFound
// or ErrDenied where the status says so.
type StatusError struct {
	Method, Path string
	Status       int
	Message      string // the provider's, shortened, without credentials
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s %s: %d %s", e.Method, e.Path, e.Status, http.StatusText(e.Status))
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Status/100 == 3 {
		text += " (a redirect, which is not followed: credentials go to the address that was set and to no other)"
	}
	return text
}

func (e *StatusError) Unwrap() error {
	switch e.Status {
	case http.StatusNotFound, http.StatusGone:
		return controlplane.ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return controlplane.ErrDenied
	}
	return nil
}

// maxMessage bounds what is repeated of a provider's words.
const maxMessage = 300

// CheckResponse is nil for a success. It reads and closes the body of whatever
// else there is.
func CheckResponse(r *http.Response) error {
	if r.StatusCode/100 == 2 {
		return nil
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(r.Body, maxErrorBody)) // what could be read is better than nothing
	e := &StatusError{Status: r.StatusCode, Message: message(body)}
	if r.Request != nil {
		e.Method, e.Path = r.Request.Method, r.Request.URL.Path
	}
	return e
}

// message finds the words in a JSON answer: providers call them differently.
func message(body []byte) string {
	var answer map[string]json.RawMessage
	if json.Unmarshal(body, &answer) != nil {
		return ""
	}
	for _, key := range []string{"message", "error_description", "error", "errorMessage"} {
		if raw, ok := answer[key]; ok {
			var text string
			if json.Unmarshal(raw, &text) != nil {
				text = string(raw) // GitLab answers lists and objects too
			}
			return Line(text, maxMessage)
		}
	}
	return ""
}

// Line makes one line of a text, of at most limit bytes and without what could
// steer a terminal.
func Line(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	return Cut(strings.Join(strings.Fields(text), " "), limit, "...")
}

// Cut shortens a text to at most limit bytes, between runes, and ends it with
// the mark if it did.
func Cut(text string, limit int, mark string) string {
	if len(text) <= limit {
		return text
	}
	end := max(0, limit-len(mark))
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + mark
}

// Cause leaves out the URL that net/http puts into errors: its query may hold a
// token.
func Cause(err error) error {
	var address *url.Error
	if errors.As(err, &address) {
		return address.Err
	}
	return err
}

// retry is an error that goes away by itself.
func retry(after time.Duration, err error) error {
	return &controlplane.RetryError{After: after, Err: err}
}

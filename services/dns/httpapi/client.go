// Package httpapi calls JSON APIs: it waits where a server asks for it, repeats
// what is safe to repeat, and keeps credentials out of errors.
package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client calls one API.
type Client struct {
	Base string // URL that paths are appended to
	HTTP *http.Client
	// Authorize puts the credentials on a request.
	Authorize func(*http.Request)
	// Wait returns after the time, or earlier with the context's error. Nil is a
	// timer; tests put in a clock of their own.
	Wait func(context.Context, time.Duration) error
}

// CheckURL refuses the address of an API that credentials would go to in clear:
// http is for loopback alone.
func CheckURL(raw string) error {
	address, err := url.Parse(raw)
	switch {
	case err != nil || address.Host == "" || address.Scheme != "https" && address.Scheme != "http":
		return errors.New("the URL is not of the form https://host")
	case address.Scheme == "http" && !isLoopback(address.Hostname()):
		return errors.New("the URL must begin with https://: credentials go there, and http is for loopback alone")
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// NewHTTP is a client for credentials: it follows no redirect, which would take
// them along and make a GET of a write. Nil is the default transport.
func NewHTTP(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Timeout:       30 * time.Second,
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Error is an answer that is no success.
type Error struct {
	Method, Path string
	Status       int
	Body         []byte
	// Wait is what the server asks for, where it is too long to wait here.
	Wait time.Duration
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s %s: %d %s", e.Method, e.Path, e.Status, http.StatusText(e.Status))
	switch {
	case e.Status/100 == 3:
		text += " (a redirect, which is not followed: credentials go to the address that was set and to no other)"
	case e.Wait > 0:
		text += fmt.Sprintf(" (it asks to wait %s)", e.Wait.Round(time.Second))
	}
	return text
}

const (
	// maxBody bounds an answer; a page of 100 records has some 60 KB.
	maxBody = 16 << 20
	// maxTries of one call.
	maxTries = 5
	// maxWait is the longest that a server may ask to wait.
	maxWait = 5 * time.Minute
)

// Call sends in as JSON, unless it is nil, and decodes the answer into out,
// unless that is nil.
func (c *Client) Call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	address := strings.TrimSuffix(c.Base, "/") + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	for try := 1; ; try++ {
		wait, err := c.once(ctx, method, path, address, body, out)
		if err == nil || wait == 0 || try == maxTries {
			return err
		}
		if wait > maxWait {
			return err
		}
		if waitErr := c.wait(ctx, min(wait*time.Duration(try), maxWait)); waitErr != nil {
			return errors.Join(err, waitErr)
		}
	}
}

func (c *Client) wait(ctx context.Context, d time.Duration) error {
	if c.Wait != nil {
		return c.Wait(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// once makes one request. A wait beside an error says that it may be repeated.
func (c *Client) once(ctx context.Context, method, path, address string, body []byte, out any) (time.Duration, error) {
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	c.Authorize(request)
	response, err := c.HTTP.Do(request)
	repeat := time.Duration(0)
	if method == http.MethodGet {
		repeat = time.Second
	}
	if err != nil {
		if ctx.Err() != nil {
			repeat = 0
		}
		return repeat, fmt.Errorf("%s %s: %w", method, path, cause(err))
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	switch {
	case err != nil:
		return repeat, fmt.Errorf("%s %s: %w", method, path, err)
	case len(content) > maxBody:
		return 0, fmt.Errorf("%s %s: the answer has more than %d MB", method, path, maxBody>>20)
	case response.StatusCode == http.StatusTooManyRequests:
		// Nothing was done, whatever the method.
		wait := retryAfter(response.Header)
		refused := &Error{Method: method, Path: path, Status: response.StatusCode, Body: content}
		if wait > maxWait {
			refused.Wait = wait
		}
		return wait, refused
	case response.StatusCode >= 500:
		return repeat, &Error{Method: method, Path: path, Status: response.StatusCode, Body: content}
	case response.StatusCode >= 300:
		return 0, &Error{Method: method, Path: path, Status: response.StatusCode, Body: content}
	case out == nil:
		return 0, nil
	}
	if err := json.Unmarshal(content, out); err != nil {
		return 0, fmt.Errorf("%s %s: the answer is not what the API promises: %w", method, path, err)
	}
	return 0, nil
}

// cause leaves out the URL, which the caller names shorter.
func cause(err error) error {
	var urlError *url.Error
	if errors.As(err, &urlError) {
		return urlError.Err
	}
	return err
}

// retryAfter reads how long to wait (RFC 9110, 10.2.3).
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil && seconds >= 0 {
		return max(time.Second, time.Duration(min(seconds, 1<<30))*time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(time.Second, time.Until(at))
	}
	return 2 * time.Second
}

package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"skep/services/controlplane"
)

// What the store takes.
const (
	// MaxBody is the largest delivery that a provider sends: GitHub's 25 MB.
	MaxBody = 25 << 20
	// MaxJSON bounds what is stored as JSON: inputs, results, events.
	MaxJSON = 1 << 20
	// MaxArtefact and MaxArtefacts bound one file and all files of a run.
	MaxArtefact  = 16 << 20
	MaxArtefacts = 64 << 20

	maxLine  = 64 << 10
	maxError = 4000
	maxPage  = 1000
)

// Page asks for rows that came before one that was seen, the newest first.
type Page struct {
	Before int64 // Next of the page before; 0: from the newest
	Limit  int   // 0: 100; never more than 1000
}

func (p Page) rows() int32 {
	if p.Limit <= 0 {
		return 100
	}
	return int32(min(p.Limit, maxPage))
}

// next is what leads on from a page, 0 from the last.
func (p Page) next(got int, last int64) int64 {
	if got < int(p.rows()) {
		return 0
	}
	return last
}

// all reads pages, each from the last row of the one before on, until there are
// no more. The first one is from the zero row on.
func all[T any](page func(last T) ([]T, error)) ([]T, error) {
	var rows []T
	for {
		var last T
		if n := len(rows); n > 0 {
			last = rows[n-1]
		}
		more, err := page(last)
		rows = append(rows, more...)
		if err != nil || len(more) < maxPage {
			return rows, err
		}
	}
}

// text is a string on its way into a column.
type text struct {
	what  string
	value string
	max   int
}

// check refuses what PostgreSQL would: text that is too long, not UTF-8 or
// holds a zero byte.
func check(all ...text) error {
	for _, t := range all {
		switch {
		case len(t.value) > t.max:
			return fmt.Errorf("%w: %s has %d bytes, %d are taken", controlplane.ErrInvalid, t.what, len(t.value), t.max)
		case !utf8.ValidString(t.value), strings.ContainsRune(t.value, 0):
			return fmt.Errorf("%w: %s is not text in UTF-8", controlplane.ErrInvalid, t.what)
		}
	}
	return nil
}

// checkMap is check for the keys and values of settings and headers.
func checkMap(what string, m map[string]string, entries, size int) error {
	if len(m) > entries {
		return fmt.Errorf("%w: %d %s, %d are taken", controlplane.ErrInvalid, len(m), what, entries)
	}
	for k, v := range m {
		if err := check(text{"a name of " + what, k, 200}, text{what, v, size}); err != nil {
			return err
		}
	}
	return nil
}

// clean makes a message fit for a column: it is shown, never read back.
func clean(s string, size int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= size {
		return s
	}
	return strings.ToValidUTF8(s[:size], "")
}

// document is JSON on its way into a column; nothing is null.
func document(what string, raw []byte) ([]byte, error) {
	if len(raw) == 0 {
		return []byte("null"), nil
	}
	if len(raw) > MaxJSON {
		return nil, fmt.Errorf("%w: %s has %d bytes, %d are taken", controlplane.ErrInvalid, what, len(raw), MaxJSON)
	}
	if !json.Valid(raw) {
		return nil, fmt.Errorf("%w: %s is not JSON", controlplane.ErrInvalid, what)
	}
	return raw, nil
}

// encode is JSON of what is only strings and numbers.
func encode(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", controlplane.ErrInvalid, err)
	}
	return raw, nil
}

// column and moment lead from a zero time to NULL and back.
func column(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func moment(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

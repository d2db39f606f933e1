package dockerproxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// finder knows where the next of a byte is, and looks again only once that is
// passed.
type finder struct {
	b  byte
	at int
}

func newFinder(b byte) finder { return finder{b, -1} }

// within reports whether the byte is in p[from:to]; from never goes back.
func (f *finder) within(p []byte, from, to int) bool {
	if f.at < from {
		f.at = next(p, from, f.b)
	}
	return f.at < to
}

// next finds a byte; the end of p if it is not there.
func next(p []byte, from int, b byte) int {
	if n := bytes.IndexByte(p[from:], b); n >= 0 {
		return from + n
	}
	return len(p)
}

// closing finds the quote that ends a string with escapes; the end of p if it
// is not there.
func closing(p []byte, from int) int {
	for at := from; ; at++ {
		at = next(p, at, '"')
		before := at
		for before > from && p[before-1] == '\\' {
			before--
		}
		if at == len(p) || (at-before)%2 == 0 {
			return at
		}
	}
}

// escaped is what stands between the quotes of a JSON string.
func escaped(s string) []byte {
	q := quote(s)
	return q[1 : len(q)-1]
}

// decode resolves the escapes of a string. The one in which a string was cut
// is dropped.
func decode(raw []byte, cut bool) (string, error) {
	s := string(raw)
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	if cut {
		s, _, _ = strings.Cut(s, `\`)
		return s, nil
	}
	var out string
	if err := json.Unmarshal([]byte(`"`+s+`"`), &out); err != nil {
		return "", fmt.Errorf("%w: %w", errForm, err)
	}
	return out, nil
}

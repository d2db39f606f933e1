package secrets

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Value is a secret. Whatever prints or encodes one gets "[redacted]"; Bytes
// is the only way to what it holds. Copies share the content, so wiping one
// wipes all.
//
// The content is behind a function, where reflection, and so dumpers that look
// at unexported fields, cannot follow.
type Value struct {
	content func() *content
}

type content struct {
	bytes []byte
	wiped bool
}

var (
	_ fmt.Formatter  = Value{}
	_ slog.LogValuer = Value{}
)

// NewValue takes b over: the caller must not use it any more.
func NewValue(b []byte) Value {
	c := &content{bytes: b}
	return Value{content: func() *content { return c }}
}

// ErrWiped is what a value holds after Wipe.
var ErrWiped = errors.New("the value has been wiped")

// Bytes is the content itself, not a copy of it: it is zeros after Wipe. The
// zero Value holds nothing.
func (v Value) Bytes() ([]byte, error) {
	if v.content == nil {
		return nil, nil
	}
	c := v.content()
	if c.wiped {
		return nil, ErrWiped
	}
	return c.bytes, nil
}

// Len is the number of bytes.
func (v Value) Len() int {
	if v.content == nil {
		return 0
	}
	return len(v.content().bytes)
}

// Clone is a value of its own with the same content.
func (v Value) Clone() (Value, error) {
	b, err := v.Bytes()
	if err != nil {
		return Value{}, err
	}
	return NewValue(append(make([]byte, 0, len(b)), b...)), nil
}

// Wipe overwrites the content. It reaches this copy alone: the runtime, the
// kernel and libraries that the bytes were handed to may hold others.
func (v Value) Wipe() {
	if v.content == nil {
		return
	}
	c := v.content()
	clear(c.bytes)
	c.bytes, c.wiped = nil, true
}

// Format writes [redacted] for every verb and flag.
func (Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String is for panics, which ask no Formatter.
func (Value) String() string { return redacted }

// GoString is for %#v of whoever does not ask Format.
func (Value) GoString() string { return redacted }

// LogValue keeps slog from looking inside.
func (Value) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText covers JSON map keys, XML and whatever else asks for text.
func (Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON writes a JSON string.
func (Value) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalYAML is what both YAML libraries ask for.
func (Value) MarshalYAML() (any, error) { return redacted, nil }

// GobEncode keeps gob, which asks for no text, in line.
func (Value) GobEncode() ([]byte, error) { return []byte(redacted), nil }

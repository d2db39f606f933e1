package dockerproxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxEntry bounds an entry of a list, and an event.
const maxEntry = 4 << 20

// filtered is a body whose entries are looked at one by one.
type filtered struct {
	from io.ReadCloser
	next func() ([]byte, error) // what to hand on; io.EOF after the last
	out  []byte
	err  error
}

func (f *filtered) Close() error { return f.from.Close() }

func (f *filtered) Read(p []byte) (int, error) {
	for len(f.out) == 0 {
		if f.err != nil {
			return 0, f.err
		}
		f.out, f.err = f.next()
	}
	n := copy(p, f.out)
	f.out = f.out[n:]
	return n, nil
}

// meter stops a reader that hands out more than maxEntry between two entries.
type meter struct {
	from io.Reader
	left int
}

var errLong = fmt.Errorf("an entry of the answer is longer than %d bytes", maxEntry)

func (m *meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, errLong
	}
	n, err := m.from.Read(p)
	m.left -= n
	return n, err
}

// filterList keeps those entries of a list for which keep is true. The list is
// the answer, or the value of the key under in the answer.
func filterList(from io.ReadCloser, under string, keep func(entry []byte) (bool, error)) io.ReadCloser {
	m := &meter{from: from, left: maxEntry}
	l := &lister{meter: m, decoder: json.NewDecoder(m), under: under, keep: keep}
	return &filtered{from: from, next: l.next}
}

type lister struct {
	meter   *meter
	decoder *json.Decoder
	under   string
	keep    func([]byte) (bool, error)

	begun, inList, ended bool
	kept                 bool // an entry of the list was written
	fields               bool // a field of the object was written
}

func (l *lister) next() ([]byte, error) {
	l.meter.left = maxEntry
	switch {
	case l.ended:
		return nil, io.EOF
	case !l.begun:
		l.begun = true
		if l.under == "" {
			return l.enterList()
		}
		return []byte("{"), l.expect('{')
	case l.inList:
		return l.entry()
	}
	return l.field()
}

func (l *lister) expect(delim json.Delim) error {
	token, err := l.decoder.Token()
	if err == nil && token != delim {
		return fmt.Errorf("%w: want %v, got %v", errForm, delim, token)
	}
	return unexpected(err)
}

// enterList begins the list; Docker says null for an empty one.
func (l *lister) enterList() ([]byte, error) {
	token, err := l.decoder.Token()
	switch {
	case err != nil:
		return nil, unexpected(err)
	case token == nil:
		l.ended = l.under == ""
		return []byte("null"), nil
	case token != json.Delim('['):
		return nil, fmt.Errorf("%w: want a list, got %v", errForm, token)
	}
	l.inList, l.kept = true, false
	return []byte("["), nil
}

func (l *lister) entry() ([]byte, error) {
	if !l.decoder.More() {
		if err := l.expect(']'); err != nil {
			return nil, err
		}
		l.inList = false
		l.ended = l.under == ""
		return []byte("]"), nil
	}
	var raw json.RawMessage
	if err := l.decoder.Decode(&raw); err != nil {
		return nil, unexpected(err)
	}
	keep, err := l.keep(raw)
	if err != nil || !keep {
		return nil, err
	}
	if l.kept {
		raw = append([]byte{','}, raw...)
	}
	l.kept = true
	return raw, nil
}

// field writes the next key of the object, and its value unless that is the
// list.
func (l *lister) field() ([]byte, error) {
	if !l.decoder.More() {
		l.ended = true
		return []byte("}\n"), l.expect('}')
	}
	token, err := l.decoder.Token()
	if err != nil {
		return nil, unexpected(err)
	}
	key, ok := token.(string)
	if !ok {
		return nil, fmt.Errorf("%w: want a key, got %v", errForm, token)
	}
	var out bytes.Buffer
	if l.fields {
		out.WriteByte(',')
	}
	l.fields = true
	out.Write(quote(key))
	out.WriteByte(':')
	if key == l.under {
		begin, err := l.enterList()
		out.Write(begin)
		return out.Bytes(), err
	}
	var raw json.RawMessage
	if err := l.decoder.Decode(&raw); err != nil {
		return nil, unexpected(err)
	}
	out.Write(raw)
	return out.Bytes(), nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

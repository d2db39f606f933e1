package dockerproxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

const (
	maxString = 64 << 10 // of a string that is looked at
	maxDepth  = 256
	maxKeys   = 256
	chunk     = 16 << 10
)

// rewriter reads JSON, any number of values one after the other, and hides what
// is not shown. It keeps one string in memory at most, however long a list is,
// and hands on at once what has come.
type rewriter struct {
	from io.ReadCloser
	show Show
	kind string // of the objects that the answer is about
	hid  func() // called for every value that was hidden

	lent    *lent
	in      []byte
	out     []byte // not yet read
	pending []byte // the buffer that out is a part of
	err     error

	frames []frame
	key    string
	keys   map[string]string // as they stand in the answer, to what they say
	text   text
}

// frame is an array or an object that is open.
type frame struct {
	object bool
	atKey  bool
	place  place
}

// text is a string that is open.
type text struct {
	open    bool
	key     bool // it is a key
	place   place
	escaped bool   // the last byte was a backslash
	raw     []byte // without quotes
	cut     bool   // raw is not all of it
}

func newRewriter(from io.ReadCloser, show Show, kind string, hid func()) *rewriter {
	l := lends.Get().(*lent)
	return &rewriter{
		from: from, show: show, kind: kind, hid: hid,
		lent: l, in: l.in, pending: l.out, keys: l.keys, text: text{raw: l.raw},
	}
}

// lent is what a rewriter hands on to the next one.
type lent struct {
	in, out, raw []byte
	keys         map[string]string // what a key says does not depend on the answer
}

var lends = sync.Pool{New: func() any {
	return &lent{in: make([]byte, chunk), out: make([]byte, 0, 2*chunk), keys: map[string]string{}}
}}

func (w *rewriter) Close() error {
	if w.lent != nil {
		if len(w.keys) == maxKeys {
			clear(w.keys) // others may come more often
		}
		*w.lent = lent{w.in, w.pending[:0], w.text.raw[:0], w.keys}
		lends.Put(w.lent)
		w.lent, w.in, w.out, w.pending, w.text.raw, w.keys = nil, nil, nil, nil, nil, nil
		w.err = http.ErrBodyReadAfterClose
	}
	return w.from.Close()
}

func (w *rewriter) Read(p []byte) (int, error) {
	for len(w.out) == 0 {
		if w.err != nil {
			return 0, w.err
		}
		n, err := w.from.Read(w.in)
		w.out = w.pending[:0]
		if problem := w.feed(w.in[:n]); problem != nil {
			err = problem
		} else if err == io.EOF && (w.text.open || len(w.frames) > 0) {
			err = io.ErrUnexpectedEOF
		}
		w.pending, w.err = w.out, err
	}
	n := copy(p, w.out)
	w.out = w.out[n:]
	return n, nil
}

var errForm = errors.New("the answer is not the JSON that it should be")

func (w *rewriter) feed(p []byte) error {
	for len(p) > 0 {
		if w.text.open {
			n, err := w.string(p)
			if err != nil {
				return err
			}
			p = p[n:]
			continue
		}
		// Up to the next string all is passed on.
		n := bytes.IndexByte(p, '"')
		begins := n >= 0
		if !begins {
			n = len(p)
		}
		for _, b := range p[:n] {
			if err := w.structure(b); err != nil {
				return err
			}
		}
		w.out = append(w.out, p[:n]...)
		p = p[n:]
		if begins {
			p = p[1:]
			w.begin()
		}
	}
	return nil
}

// begin opens a string.
func (w *rewriter) begin() {
	top := w.top()
	w.text.open, w.text.key, w.text.place = true, top.atKey, plain
	w.text.raw, w.text.cut = w.text.raw[:0], false
	if !top.atKey && len(w.frames) > 0 {
		w.text.place = w.show.of(top.place, w.keyOf(top))
	}
	if !w.text.kept() {
		w.out = append(w.out, '"')
	}
}

// kept: the string is put aside until its end is there.
func (t *text) kept() bool { return t.key || t.place != plain }

// structure takes a byte outside of strings.
func (w *rewriter) structure(b byte) error {
	top := w.top()
	switch b {
	case '{', '[':
		if top.atKey || len(w.frames) == maxDepth {
			return errForm
		}
		w.frames = append(w.frames, frame{b == '{', b == '{', w.show.inside(top.place, w.keyOf(top), w.kind)})
	case '}', ']':
		if len(w.frames) == 0 || top.object != (b == '}') {
			return errForm
		}
		w.frames = w.frames[:len(w.frames)-1]
	case ',':
		if len(w.frames) == 0 {
			return errForm
		}
		w.frames[len(w.frames)-1].atKey = top.object
	case ':':
		if !top.atKey {
			return errForm
		}
		w.frames[len(w.frames)-1].atKey = false
	}
	return nil
}

func (w *rewriter) top() frame {
	if len(w.frames) == 0 {
		return frame{}
	}
	return w.frames[len(w.frames)-1]
}

func (w *rewriter) keyOf(f frame) string {
	if f.object {
		return w.key
	}
	return ""
}

// string takes bytes of the open string, and says how many.
func (w *rewriter) string(p []byte) (int, error) {
	if end := bytes.IndexByte(p, '"'); end >= 0 && !w.text.escaped && bytes.IndexByte(p[:end], '\\') < 0 {
		w.keep(p[:end])
		w.text.open = false
		return end + 1, w.close()
	}
	for i := 0; i < len(p); i++ {
		switch b := p[i]; {
		case w.text.escaped:
			w.text.escaped = false
		case b == '\\':
			w.text.escaped = true
		case b == '"':
			w.keep(p[:i])
			w.text.open = false
			return i + 1, w.close()
		}
	}
	w.keep(p)
	return len(p), nil
}

// keep puts a part of a string aside, or through.
func (w *rewriter) keep(p []byte) {
	if !w.text.kept() {
		w.out = append(w.out, p...)
		return
	}
	if room := maxString - len(w.text.raw); len(p) > room {
		p, w.text.cut = p[:room], true
	}
	w.text.raw = append(w.text.raw, p...)
}

// close decides on the string that has ended.
func (w *rewriter) close() error {
	t := &w.text
	if !t.kept() {
		w.out = append(w.out, '"')
		return nil
	}
	if t.key && t.cut {
		return fmt.Errorf("%w: a key is longer than %d bytes", errForm, maxString)
	}
	if key, ok := w.keys[string(t.raw)]; ok && t.key {
		w.key = key
		w.quoted(t.raw)
		return nil
	}
	if w.closeSimple() {
		return nil
	}
	value, err := decode(t.raw, t.cut)
	if err != nil {
		return err
	}
	if t.key {
		if len(w.keys) < maxKeys && len(t.raw) < maxKeys {
			w.keys[string(t.raw)] = value
		}
		w.key = value
		w.quoted(t.raw)
		return nil
	}
	shown := t.place.replace(w.keyOf(w.top()), value, !t.cut)
	if shown == value && !t.cut {
		w.quoted(t.raw)
		return nil
	}
	w.hid()
	w.out = append(w.out, quote(shown)...)
	return nil
}

// closeSimple decides on most strings as place.replace does, without copies.
func (w *rewriter) closeSimple() bool {
	t := &w.text
	key := w.keyOf(w.top())
	switch {
	case t.key, t.cut, bytes.IndexByte(t.raw, '\\') >= 0:
		return false
	case t.place == variable && key == "":
		name, _, ok := bytes.Cut(t.raw, []byte("="))
		if !ok {
			w.quoted(t.raw)
			return true
		}
		w.hid()
		w.out = append(w.out, '"')
		w.out = append(w.out, name...)
		w.out = append(w.out, "="+mask+`"`...)
		return true
	case t.place == setting && bytes.IndexByte(t.raw, '@') < 0 && bytes.IndexByte(t.raw, '=') < 0 && !secretName(key):
		w.quoted(t.raw)
		return true
	}
	return false
}

func (w *rewriter) quoted(raw []byte) {
	w.out = append(w.out, '"')
	w.out = append(w.out, raw...)
	w.out = append(w.out, '"')
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

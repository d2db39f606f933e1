package dockerproxy

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net/http"
	"sync"
)

const (
	maxString = 64 << 10 // of a string that is looked at
	maxDepth  = 256
	maxName   = 128 // of a label whose verdict is kept

	chunk      = 64 << 10
	eventChunk = 4 << 10
)

// rewriter reads JSON, any number of values one after the other, and hides what
// is not shown. It keeps one string in memory at most, however long a list is,
// and hands on at once what has come.
//
// Most of an answer is passed on as it lies there, in runs as long as can be:
// only keys, and strings whose place is not plain, are looked at.
type rewriter struct {
	from io.ReadCloser
	show Show
	kind string    // of the objects that the answer is about
	hid  func(int) // called with the number of values that were hidden

	*lent
	unread []byte // of out
	err    error

	key    []byte // the last, as it says, in the chunk that is read or in lent.key
	text   text
	hidden int // values of this chunk
}

// frame is an array or an object that is open.
type frame struct {
	object bool
	atKey  bool
	place  place
}

// text is a string that began in an earlier chunk.
type text struct {
	open    bool
	key     bool // it is a key
	place   place
	escaped bool // the last byte was a backslash
	cut     bool // lent.raw is not all of it
}

func newRewriter(from io.ReadCloser, show Show, kind string, hid func(int)) *rewriter {
	w := &rewriter{from: from, show: show, kind: kind, hid: hid}
	if kind == "events" {
		w.lent = newLent(eventChunk) // it may last for days
	} else {
		w.lent = lends.Get().(*lent)
	}
	return w
}

// lent is what a rewriter hands on to the next one.
type lent struct {
	in, out  []byte
	raw      []byte // of text, without quotes
	lastKey  []byte
	frames   []frame      // the first is around all values
	verdicts [256]verdict // by the hash of the name
}

// verdict is what secretName says of a name; in a list most come again and
// again.
type verdict struct {
	name   []byte
	secret bool
}

var seed = maphash.MakeSeed()

var lends = sync.Pool{New: func() any { return newLent(chunk) }}

func newLent(size int) *lent {
	return &lent{in: make([]byte, size), out: make([]byte, 0, size+size/4), frames: make([]frame, 1, 16)}
}

func (w *rewriter) Close() error {
	if w.lent != nil {
		w.frames = append(w.frames[:0], frame{})
		if len(w.in) == chunk {
			lends.Put(w.lent)
		}
		w.lent, w.unread, w.key = nil, nil, nil
		w.err = http.ErrBodyReadAfterClose
	}
	return w.from.Close()
}

func (w *rewriter) Read(p []byte) (int, error) {
	for len(w.unread) == 0 {
		if w.err != nil {
			return 0, w.err
		}
		n, err := w.from.Read(w.in)
		w.out = w.out[:0]
		if problem := w.feed(w.in[:n]); problem != nil {
			err = problem
		} else if err == io.EOF && (w.text.open || len(w.frames) > 1) {
			err = io.ErrUnexpectedEOF
		}
		if w.hidden > 0 {
			w.hid(w.hidden)
			w.hidden = 0
		}
		w.unread, w.err = w.out, err
	}
	n := copy(p, w.unread)
	w.unread = w.unread[n:]
	return n, nil
}

var errForm = errors.New("the answer is not the JSON that it should be")

// feed takes a chunk.
func (w *rewriter) feed(p []byte) error {
	at := 0
	if w.text.open {
		n, err := w.continued(p)
		if err != nil || w.text.open {
			return err
		}
		at = n
	}
	top := &w.frames[len(w.frames)-1]
	from := at // what comes before is passed on
	escapes, equals, ats := newFinder('\\'), newFinder('='), newFinder('@')
	for at < len(p) {
		b := p[at]
		if b == '"' {
			at++
			end := next(p, at, '"')
			simple := !escapes.within(p, at, end)
			if !simple {
				end = closing(p, at)
			}
			if end == len(p) {
				w.out = append(w.out, p[from:at-1]...)
				return w.begin(*top, p[at:])
			}
			if top.atKey {
				if w.key = p[at:end]; !simple {
					if err := w.decodeKey(); err != nil {
						return err
					}
				}
				at = end + 1
				continue
			}
			// What place.replace says, of most strings without looking twice.
			n, instead := 0, []byte(nil)
			switch place := w.show.of(top.place, w.keyOf(top)); {
			case place == plain:
			case simple && place == variable && !top.object:
				if equals.within(p, at, end) {
					n, instead = equals.at+1-at, masked
				}
			case simple && place == setting && !equals.within(p, at, end) && !ats.within(p, at, end):
				if w.secretName(w.keyOf(top)) {
					instead = masked
				}
			default:
				var err error
				if instead, err = w.look(p[at:end], place, w.keyOf(top), false); err != nil {
					return err
				}
			}
			if instead != nil {
				w.hidden++
				w.out = append(w.out, p[from:at+n]...)
				w.out = append(w.out, instead...)
				from = end
			}
			at = end + 1
			continue
		}
		at++
		switch b {
		case '{', '[':
			if top.atKey || len(w.frames) > maxDepth {
				return errForm
			}
			w.frames = append(w.frames, frame{b == '{', b == '{', w.show.inside(top.place, w.keyOf(top), w.kind)})
			top = &w.frames[len(w.frames)-1]
		case '}', ']':
			if len(w.frames) == 1 || top.object != (b == '}') {
				return errForm
			}
			w.frames = w.frames[:len(w.frames)-1]
			top = &w.frames[len(w.frames)-1]
		case ',':
			if len(w.frames) == 1 {
				return errForm
			}
			top.atKey = top.object
		case ':':
			if !top.atKey {
				return errForm
			}
			top.atKey = false
		}
	}
	w.out = append(w.out, p[from:]...)
	w.keepKey()
	return nil
}

// keyOf is the key of the value that comes; arrays have none.
func (w *rewriter) keyOf(f *frame) []byte {
	if f.object {
		return w.key
	}
	return nil
}

func (w *rewriter) decodeKey() error {
	key, err := decode(w.key, false)
	w.key = []byte(key)
	return err
}

// keepKey keeps the key beyond the chunk that it lies in.
func (w *rewriter) keepKey() {
	w.lastKey = append(w.lastKey[:0], w.key...)
	w.key = w.lastKey
}

// begin opens a string that does not end in its chunk.
func (w *rewriter) begin(top frame, p []byte) error {
	w.keepKey()
	w.text = text{open: true, key: top.atKey, place: plain}
	w.raw = w.raw[:0]
	if !top.atKey {
		w.text.place = w.show.of(top.place, w.keyOf(&top))
	}
	if !w.text.kept() {
		w.out = append(w.out, '"')
	}
	_, err := w.continued(p)
	return err
}

// kept: the string is put aside until its end is there.
func (t *text) kept() bool { return t.key || t.place != plain }

// continued takes bytes of the open string, and says how many.
func (w *rewriter) continued(p []byte) (int, error) {
	for i, b := range p {
		switch {
		case w.text.escaped:
			w.text.escaped = false
		case b == '\\':
			w.text.escaped = true
		case b == '"':
			w.keep(p[:i])
			w.text.open = false
			return i + 1, w.end()
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
	if room := maxString - len(w.raw); len(p) > room {
		p, w.text.cut = p[:room], true
	}
	w.raw = append(w.raw, p...)
}

// end decides on the open string, which has ended.
func (w *rewriter) end() error {
	switch t := &w.text; {
	case !t.kept():
		w.out = append(w.out, '"')
		return nil
	case t.key && t.cut:
		return fmt.Errorf("%w: a key is longer than %d bytes", errForm, maxString)
	case t.key:
		w.quoted(w.raw)
		w.key = w.raw
		err := w.decodeKey()
		w.keepKey()
		return err
	}
	key := w.keyOf(&w.frames[len(w.frames)-1])
	instead, err := w.look(w.raw, w.text.place, key, w.text.cut)
	switch {
	case err != nil:
		return err
	case instead == nil:
		instead = w.raw
	default:
		w.hidden++
	}
	w.quoted(instead)
	return nil
}

var masked = []byte(mask)

// look decides what a consumer sees instead of a string; nil: the string.
func (w *rewriter) look(raw []byte, at place, key []byte, cut bool) ([]byte, error) {
	value, err := decode(raw, cut)
	if err != nil {
		return nil, err
	}
	shown := at.replace(string(key), value, !cut)
	if shown == value && !cut {
		return nil, nil
	}
	return escaped(shown), nil
}

// secretName is that of the package, for names that often come again.
func (w *rewriter) secretName(name []byte) bool {
	if len(name) > maxName {
		return secretName(string(name))
	}
	v := &w.verdicts[maphash.Bytes(seed, name)%uint64(len(w.verdicts))]
	if !bytes.Equal(v.name, name) {
		v.name, v.secret = append(v.name[:0], name...), secretName(string(name))
	}
	return v.secret
}

func (w *rewriter) quoted(raw []byte) {
	w.out = append(w.out, '"')
	w.out = append(w.out, raw...)
	w.out = append(w.out, '"')
}

// Package output handles what jobs write: it hides secrets and makes lines of
// it. It links the standard library alone, for it runs inside jobs too.
package output

import (
	"bytes"
	"io"
	"slices"
)

// Redacted is in the place of a secret.
const Redacted = "[redacted]"

const (
	// shortest is the length from which a secret can be told from text that
	// happens to be the same.
	shortest = 4
	// shortestLine is that of one line of a secret that has several.
	shortestLine = 8
	// longestLine is where a line is handed on in pieces.
	longestLine = 64 << 10
)

// Mask knows the secrets of a job.
type Mask struct {
	secrets [][]byte  // the longest first
	first   [256]bool // bytes that a secret begins with
}

// NewMask hides secrets, without the white space around them, and the lines of
// those that have several. What is too short to be a secret stays visible.
func NewMask(values ...[]byte) *Mask {
	m := &Mask{}
	for _, v := range values {
		v = bytes.TrimSpace(v)
		m.add(v, shortest)
		if bytes.ContainsRune(v, '\n') {
			for line := range bytes.SplitSeq(v, []byte("\n")) {
				m.add(bytes.TrimSpace(line), shortestLine)
			}
		}
	}
	slices.SortFunc(m.secrets, func(a, b []byte) int { return len(b) - len(a) })
	return m
}

func (m *Mask) add(secret []byte, least int) {
	if len(secret) >= least {
		m.secrets = append(m.secrets, bytes.Clone(secret))
		m.first[secret[0]] = true
	}
}

// match returns how many bytes at the start of b are a secret, or that more has
// to be seen first.
func (m *Mask) match(b []byte) (n int, more bool) {
	if !m.first[b[0]] {
		return 0, false
	}
	for _, s := range m.secrets {
		switch {
		case bytes.HasPrefix(b, s):
			return len(s), false
		case bytes.HasPrefix(s, b):
			return 0, true
		}
	}
	return 0, false
}

// Bytes is a text with secrets masked.
func (m *Mask) Bytes(text []byte) []byte {
	var out bytes.Buffer
	w := m.Writer(&out)
	_, _ = w.Write(text) // a buffer takes all
	_ = w.Close()
	return out.Bytes()
}

// Writer hands on what is written to it, with secrets masked wherever writes
// cut them. It holds back what may become a secret; Close hands on the rest.
func (m *Mask) Writer(to io.Writer) io.WriteCloser { return &writer{mask: m, to: to} }

type writer struct {
	mask   *Mask
	to     io.Writer
	held   []byte
	hidden int // of held, that are part of a secret that was masked already
}

func (w *writer) Write(p []byte) (int, error) {
	w.held = append(w.held, p...)
	return len(p), w.pass(false)
}

func (w *writer) Close() error { return w.pass(true) }

func (w *writer) pass(last bool) error {
	out := make([]byte, 0, len(w.held))
	i := 0
	for ; i < len(w.held); i++ {
		n, more := w.mask.match(w.held[i:])
		if more && last {
			n, more = w.shorter(w.held[i:]), false
		}
		if more {
			break
		}
		if n > 0 {
			if i >= w.hidden {
				out = append(out, Redacted...)
			}
			w.hidden = max(w.hidden, i+n)
		}
		if i >= w.hidden {
			out = append(out, w.held[i])
		}
	}
	w.held, w.hidden = append(w.held[:0], w.held[i:]...), max(0, w.hidden-i)
	if len(out) == 0 {
		return nil
	}
	_, err := w.to.Write(out)
	return err
}

// shorter is match where nothing follows.
func (w *writer) shorter(b []byte) int {
	for _, s := range w.mask.secrets {
		if bytes.HasPrefix(b, s) {
			return len(s)
		}
	}
	return 0
}

// Lines calls f with each line that is written, without its end. Close calls it
// with the last one if that has no end. A line of more than 64 KiB comes in
// pieces.
func Lines(f func(line string)) io.WriteCloser { return &lines{f: f} }

type lines struct {
	f    func(string)
	held []byte
}

func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			end = len(p)
		}
		if room := longestLine - len(l.held); end > room {
			l.held = append(l.held, p[:room]...)
			p = p[room:]
			l.hand()
			continue
		}
		l.held = append(l.held, p[:end]...)
		if end == len(p) {
			break
		}
		p = p[end+1:]
		l.hand()
	}
	return n, nil
}

func (l *lines) hand() {
	l.f(string(bytes.TrimRight(l.held, "\r")))
	l.held = l.held[:0]
}

func (l *lines) Close() error {
	if len(l.held) > 0 {
		l.hand()
	}
	return nil
}

// Buffer keeps the beginning of what is written to it.
type Buffer struct {
	Most int
	kept []byte
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.kept = append(b.kept, p[:min(len(p), b.Most-len(b.kept))]...)
	return len(p), nil
}

// Bytes is what was kept.
func (b *Buffer) Bytes() []byte { return b.kept }

package postscript

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"skep/services/worker/artefact"
)

// ErrBroken says that what came is no postscript: the job wrote between its
// lines, or was ended while it was written.
var ErrBroken = errors.New("what the job handed back cannot be read")

const (
	// maxLine is longer than any line that Write makes.
	maxLine = 4 * lineBytes
	// An archive is hardly longer than its files if they cannot be compressed.
	maxHeader  = 4 << 10
	maxNote    = 1 << 20
	maxArchive = artefact.MaxBytes + artefact.MaxFiles*maxHeader + MaxAnswer + maxNote
	// Sealed, it is longer by that of each chunk, far below a hundredth.
	maxSealed = maxArchive + maxArchive/100
)

// Splitter takes the postscript out of a job's output, wherever writes cut it,
// and hands on the rest.
type Splitter struct {
	to   io.Writer
	key  Key
	mark []byte

	held   []byte // what may become the mark, or the line after it
	inside bool   // a line
	spool  *os.File
	size   int64
	ended  bool
	err    error
}

// NewSplitter hands on to a writer what is not for the key.
func NewSplitter(k Key, to io.Writer) *Splitter {
	return &Splitter{to: to, key: k, mark: []byte(opening + string(k.Token()) + " ")}
}

// Begun says whether any of the postscript has come, Ended whether all has.
func (s *Splitter) Begun() bool { return s.ended || s.spool != nil || s.err != nil }

// Ended says whether nothing of it is missing.
func (s *Splitter) Ended() bool { return s.ended }

func (s *Splitter) Write(p []byte) (int, error) {
	s.held = append(s.held, p...)
	for {
		if s.inside {
			if !s.line() {
				return len(p), nil
			}
			continue
		}
		i, whole := find(s.held, s.mark)
		if i > 0 {
			if _, err := s.to.Write(s.held[:i]); err != nil {
				return 0, err
			}
			s.held = append(s.held[:0], s.held[i:]...)
		}
		if !whole {
			return len(p), nil
		}
		s.held = append(s.held[:0], s.held[len(s.mark):]...)
		s.inside = true
	}
}

// Close hands on what was held back.
func (s *Splitter) Close() error {
	if s.inside || len(s.held) == 0 {
		return nil
	}
	_, err := s.to.Write(s.held)
	s.held = nil
	return err
}

// find returns where the mark is in b, or where what is there of it begins.
func find(b, mark []byte) (at int, whole bool) {
	for i := 0; ; i++ {
		next := bytes.IndexByte(b[i:], mark[0])
		if next < 0 {
			return len(b), false
		}
		i += next
		if bytes.HasPrefix(b[i:], mark) {
			return i, true
		}
		if bytes.HasPrefix(mark, b[i:]) {
			return i, false
		}
	}
}

// line takes one that is whole, and says whether it was.
func (s *Splitter) line() bool {
	n := bytes.IndexByte(s.held, '\n')
	if n < 0 && len(s.held) <= maxLine {
		return false
	}
	if n < 0 || n > maxLine {
		s.fail(fmt.Errorf("%w: a line of it has no end", ErrBroken))
		n = min(len(s.held), maxLine) - 1
	} else {
		s.take(string(bytes.TrimRight(s.held[:n], "\r")))
	}
	s.held = append(s.held[:0], s.held[n+1:]...)
	s.inside = false
	return true
}

func (s *Splitter) take(text string) {
	switch {
	case s.ended || s.err != nil:
		return // the first one counts
	case text == end:
		s.ended = true
		return
	}
	part, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		s.fail(fmt.Errorf("%w: %w", ErrBroken, err))
		return
	}
	if s.size += int64(len(part)); s.size > maxSealed {
		s.fail(fmt.Errorf("%w: it is longer than %d MiB", ErrBroken, maxSealed>>20))
		return
	}
	if s.spool == nil {
		if s.spool, err = spool(); err != nil {
			s.fail(err)
			return
		}
	}
	if _, err := s.spool.Write(part); err != nil {
		s.fail(err)
	}
}

func (s *Splitter) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// spool is a file that goes with its last reader.
func spool() (*os.File, error) {
	f, err := os.CreateTemp("", "skep-postscript-")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// Discard drops what has come.
func (s *Splitter) Discard() error {
	if s.spool == nil {
		return nil
	}
	err := s.spool.Close()
	s.spool = nil
	return err
}

// Unpack puts the files of a postscript into the folder of artefacts of a tree,
// in place of what is there, and returns its note. Whatever the job did to it,
// files stay inside and are files, and there are no more of them than
// artefact.Read hands on. Without a tree there may be none.
func (s *Splitter) Unpack(dir string) (n Note, err error) {
	switch {
	case s.err != nil:
		return Note{}, s.err
	case !s.ended || s.spool == nil:
		return Note{}, fmt.Errorf("%w: its end is missing", ErrBroken)
	}
	if _, err := s.spool.Seek(0, io.SeekStart); err != nil {
		return Note{}, err
	}
	opened, err := newOpener(s.spool, s.key)
	if err != nil {
		return Note{}, err
	}
	zipped, err := gzip.NewReader(opened)
	if err != nil {
		return Note{}, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	u := unpacker{archive: tar.NewReader(io.LimitReader(zipped, maxArchive))}
	if dir == "" {
		return u.unpack(zipped)
	}
	tree, err := os.OpenRoot(dir)
	if err != nil {
		return Note{}, err
	}
	defer tree.Close()
	empty := func() error { return errors.Join(tree.RemoveAll(artefact.Folder), tree.Mkdir(artefact.Folder, 0o755)) }
	if err := empty(); err != nil {
		return Note{}, err
	}
	if u.folder, err = tree.OpenRoot(artefact.Folder); err != nil {
		return Note{}, err
	}
	defer u.folder.Close()
	if n, err = u.unpack(zipped); err != nil {
		return Note{}, errors.Join(err, empty()) // a part of them is not what the job left
	}
	return n, nil
}

// unpacker reads the entries of a postscript's archive.
type unpacker struct {
	archive *tar.Reader
	folder  *os.Root // nil: for no files
	files   int
	size    int64
	answer  []byte
	note    Note
	done    bool // the note is the last entry
}

func (u *unpacker) unpack(zipped io.Reader) (Note, error) {
	for !u.done {
		if err := u.next(); err != nil {
			return Note{}, err
		}
	}
	// The rest of it has the check sum.
	if _, err := io.Copy(io.Discard, io.LimitReader(zipped, maxHeader)); err != nil {
		return Note{}, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return u.note, nil
}

func (u *unpacker) next() error {
	h, err := u.archive.Next()
	if err != nil { // the archive's end too: there is no note
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	if h.Typeflag != tar.TypeReg {
		return fmt.Errorf("%w: %q is no file", ErrBroken, h.Name)
	}
	switch h.Name {
	case answerName:
		return u.takeAnswer(h.Size)
	case noteName:
		u.done = true
		if err := json.NewDecoder(io.LimitReader(u.archive, maxNote)).Decode(&u.note); err != nil {
			return fmt.Errorf("%w: %w", ErrBroken, err)
		}
		u.note.Left = u.note.Left[:min(len(u.note.Left), artefact.MaxFiles+1)]
		u.note.Answer = u.answer
		return nil
	}
	name, ok := strings.CutPrefix(h.Name, filePrefix)
	if !ok || u.folder == nil || name != path.Clean(name) || !filepath.IsLocal(name) {
		return fmt.Errorf("%w: %q is no name of a file of it", ErrBroken, h.Name)
	}
	u.files++
	u.size += h.Size
	if h.Size > artefact.MaxFile || u.files > artefact.MaxFiles || u.size > artefact.MaxBytes {
		return fmt.Errorf("%w: there are more files in it than a job may leave, or larger ones", ErrBroken)
	}
	return u.write(name)
}

func (u *unpacker) takeAnswer(size int64) error {
	if u.answer != nil || size > MaxAnswer {
		return fmt.Errorf("%w: there are two answers in it, or one that is too long", ErrBroken)
	}
	var err error
	if u.answer, err = io.ReadAll(u.archive); err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return nil
}

func (u *unpacker) write(name string) (err error) {
	if err := u.folder.MkdirAll(path.Dir(name), 0o755); err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	f, err := u.folder.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, u.archive); err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return nil
}

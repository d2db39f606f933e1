package postscript

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"skep/services/worker/artefact"
)

// files are those below a folder, by their names.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, name))
		found[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func write(t *testing.T, dir string, content map[string]string) {
	t.Helper()
	for name, text := range content {
		name = filepath.Join(dir, artefact.Folder, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// What a job leaves comes back wherever its output is cut, and the output is
// what the job wrote.
func TestPostscript(t *testing.T) {
	from, random := t.TempDir(), make([]byte, 3*lineBytes+1)
	rand.Read(random)
	want := map[string]string{"a.json": "{}", "dir/b": "", "dir/random": string(random), "a name\nof two lines": "x"}
	write(t, from, want)
	if err := os.Symlink("/etc/passwd", filepath.Join(from, artefact.Folder, "link")); err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	token := key.Token()
	before := "no new line \x1e at the end\x1e" + string(token)[:5]
	said := bytes.NewBufferString(before)
	answer := bytes.Repeat([]byte("{}\n"), lineBytes)
	if err := Write(said, token, from, Note{Late: true, Answer: answer}); err != nil {
		t.Fatal(err)
	}
	after := "\x1e\x1eafter\n\x1e" + string(token)[:7]
	said.WriteString(after)
	for _, size := range []int{1, 2, 7, 4096, 16 << 10, said.Len()} {
		var out bytes.Buffer
		s := NewSplitter(key, &out)
		for part := range slices.Chunk(said.Bytes(), size) {
			if n, err := s.Write(part); n != len(part) || err != nil {
				t.Fatalf("Write = %d, %v", n, err)
			}
		}
		if err := s.Close(); err != nil || out.String() != before+after {
			t.Errorf("in pieces of %d the job said %q, %v", size, out.String(), err)
		}
		to := t.TempDir()
		write(t, to, map[string]string{"old": "of somebody else"})
		note, err := s.Unpack(to)
		if err != nil || !note.Late || note.Memory || !bytes.Equal(note.Answer, answer) || !slices.Equal(note.Left, []Left{{"link", "it is no file"}}) {
			t.Errorf("note %+v, %v", note, err)
		}
		if got := files(t, filepath.Join(to, artefact.Folder)); !maps.Equal(got, want) {
			t.Errorf("in pieces of %d: %d files, want %d", size, len(got), len(want))
		}
		if err := s.Discard(); err != nil {
			t.Error(err)
		}
	}
	// Another run's is output like any other.
	var out bytes.Buffer
	other := NewSplitter(newKey(t), &out)
	if _, err := other.Write(said.Bytes()); err != nil || other.Close() != nil || other.Begun() || !bytes.Equal(out.Bytes(), said.Bytes()) {
		t.Errorf("another run's splitter took %d bytes of %d, %v", said.Len()-out.Len(), said.Len(), err)
	}
}

func TestNoteAlone(t *testing.T) {
	var said bytes.Buffer
	key := newKey(t)
	if err := Write(&said, key.Token(), "", Note{Memory: true}); err != nil {
		t.Fatal(err)
	}
	s := NewSplitter(key, io.Discard)
	if _, err := s.Write(said.Bytes()); err != nil {
		t.Fatal(err)
	}
	if note, err := s.Unpack(""); err != nil || !note.Memory || note.Answer != nil {
		t.Errorf("note %+v, %v", note, err)
	}
}

func newKey(t *testing.T) Key {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// pack makes an archive as a job could.
func pack(t *testing.T, headers []*tar.Header, content string) []byte {
	t.Helper()
	var archive bytes.Buffer
	zipped, err := gzip.NewWriterLevel(&archive, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(zipped)
	for _, h := range headers {
		h.Mode = 0o644
		if h.Typeflag == tar.TypeReg && h.Size == 0 {
			h.Size = int64(len(content))
		}
		err := w.WriteHeader(h)
		if err == nil && h.Typeflag == tar.TypeReg {
			_, err = w.Write([]byte(content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// seal seals an archive for a token.
func seal(t *testing.T, to Token, archive []byte) []byte {
	t.Helper()
	var sealed bytes.Buffer
	s, err := newSealer(&sealed, to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(archive); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return sealed.Bytes()
}

// lined makes the lines of a token.
func lined(to Token, content []byte) []byte {
	var said bytes.Buffer
	for part := range slices.Chunk(content, lineBytes) {
		said.WriteString(opening + string(to) + " " + base64.StdEncoding.EncodeToString(part) + "\n")
	}
	said.WriteString(opening + string(to) + " .\n")
	return said.Bytes()
}

// flip changes a byte, counted from the end if at is negative.
func flip(content []byte, at int) []byte {
	if at < 0 {
		at += len(content)
	}
	content = bytes.Clone(content)
	content[at] ^= 1
	return content
}

// What travels in the log says nothing to who reads it, and is of no use once it
// was changed.
func TestSealed(t *testing.T) {
	const secret = "planted-in-an-answer"
	key, random := newKey(t), make([]byte, 4*lineBytes)
	rand.Read(random)
	dir := t.TempDir()
	write(t, dir, map[string]string{"key.pem": secret, "random": string(random)})
	var said bytes.Buffer
	if err := Write(&said, key.Token(), dir, Note{Answer: []byte(secret)}); err != nil {
		t.Fatal(err)
	}
	var sealed []byte
	for line := range strings.Lines(said.String()) {
		_, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if part, err := base64.StdEncoding.DecodeString(text); err == nil && text != end {
			sealed = append(sealed, part...)
		}
	}
	if len(sealed) < len(random) || bytes.Contains(sealed, random[:16]) || bytes.Contains(sealed, []byte(secret)) || bytes.Contains(sealed, []byte{0x1f, 0x8b, 8}) {
		t.Errorf("what %d bytes in the log are can be seen", len(sealed))
	}
	if want := lined(key.Token(), sealed); !bytes.Equal(said.Bytes(), want) {
		t.Fatal("the test does not know how lines are made")
	}

	second, chunk := encapsulated+sealedBytes, sealedBytes
	swapped := slices.Concat(sealed[:encapsulated], sealed[second:second+chunk], sealed[encapsulated:second], sealed[second+chunk:])
	for name, content := range map[string][]byte{
		"whole": sealed, "of another key": seal(t, newKey(t).Token(), []byte("x")), "changed": flip(sealed, second+3), "another key's half": flip(sealed, 3),
		"swapped": swapped, "without a chunk": slices.Concat(sealed[:second], sealed[second+chunk:]), "cut between chunks": sealed[:second+chunk],
		"cut": sealed[:second+chunk+40], "all but a byte": sealed[:len(sealed)-1], "no chunk": sealed[:encapsulated], "half a key": sealed[:encapsulated-1],
	} {
		s := NewSplitter(key, io.Discard)
		if _, err := s.Write(lined(key.Token(), content)); err != nil {
			t.Fatal(err)
		}
		note, err := s.Unpack(t.TempDir())
		read, cut := newOpener(bytes.NewReader(content), key)
		if cut == nil {
			_, cut = io.Copy(io.Discard, read)
		}
		if errors.Is(cut, ErrBroken) == (name == "whole") {
			t.Errorf("%s: %v", name, cut)
		}
		if name == "whole" {
			if err != nil || string(note.Answer) != secret {
				t.Errorf("whole: %+v, %v", note, err)
			}
		} else if !errors.Is(err, ErrBroken) || note.Answer != nil {
			t.Errorf("%s: %+v, %v", name, note, err)
		}
		if err := s.Discard(); err != nil {
			t.Error(err)
		}
	}
	for _, none := range []Token{"token", "", key.Token() + "AA", Token(strings.Repeat("A", 43))} {
		if err := Write(io.Discard, none, "", Note{}); err == nil {
			t.Errorf("something is sealed for %q", none)
		}
	}
}

// Whatever a job hands back, nothing of it lies outside, nothing of it is more
// than a job may leave, and a part of it is nothing.
func TestForged(t *testing.T) {
	key := newKey(t)
	token := key.Token()
	mark := opening + string(token) + " "
	forge := func(headers []*tar.Header, content string) []byte {
		return lined(token, seal(t, token, pack(t, headers, content)))
	}
	reg := func(name string) *tar.Header { return &tar.Header{Typeflag: tar.TypeReg, Name: name} }
	many := []*tar.Header{}
	for i := range artefact.MaxFiles + 1 {
		many = append(many, reg("files/"+strings.Repeat("x", i+1)))
	}
	large := []*tar.Header{}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		large = append(large, reg("files/"+name))
	}
	archive := pack(t, []*tar.Header{reg("files/a"), reg(noteName)}, "{}")
	whole := lined(token, seal(t, token, archive))
	for name, c := range map[string]struct {
		said []byte
		want string
	}{
		"up":            {forge([]*tar.Header{reg("files/a"), reg("files/../../up"), reg(noteName)}, "{}"), "no name of a file"},
		"up and down":   {forge([]*tar.Header{reg("files/a/../b"), reg(noteName)}, "{}"), "no name of a file"},
		"root":          {forge([]*tar.Header{reg("files/a"), reg("files//etc/up"), reg(noteName)}, "{}"), "no name of a file"},
		"elsewhere":     {forge([]*tar.Header{reg("files/a"), reg("up"), reg(noteName)}, "{}"), "no name of a file"},
		"a link":        {forge([]*tar.Header{{Typeflag: tar.TypeSymlink, Name: "files/a", Linkname: "/etc"}, reg("files/a/up"), reg(noteName)}, "{}"), "is no file"},
		"a hard link":   {forge([]*tar.Header{{Typeflag: tar.TypeLink, Name: "files/a", Linkname: "/etc/passwd"}, reg(noteName)}, "{}"), "is no file"},
		"a device":      {forge([]*tar.Header{{Typeflag: tar.TypeBlock, Name: "files/a", Devmajor: 8}, reg(noteName)}, "{}"), "is no file"},
		"twice":         {forge([]*tar.Header{reg("files/a"), reg("files/a"), reg(noteName)}, "{}"), "exists"},
		"below a file":  {forge([]*tar.Header{reg("files/a"), reg("files/a/b"), reg(noteName)}, "{}"), "file exists"},
		"many":          {forge(append(many, reg(noteName)), "{}"), "more files"},
		"a large file":  {forge([]*tar.Header{reg("files/a"), reg(noteName)}, strings.Repeat("x", artefact.MaxFile+1)), "larger ones"},
		"a lot":         {forge(large, strings.Repeat("x", artefact.MaxFile)), "more files"},
		"two answers":   {forge([]*tar.Header{reg("files/a"), reg(answerName), reg(answerName), reg(noteName)}, "{}"), "two answers"},
		"a long answer": {forge([]*tar.Header{reg("files/a"), reg(answerName), reg(noteName)}, strings.Repeat("x", MaxAnswer)+"x"), "larger ones"},
		"no note":       {forge([]*tar.Header{reg("files/a")}, "{}"), "EOF"},
		"a broken note": {forge([]*tar.Header{reg("files/a"), reg(noteName)}, "{"), "EOF"},
		"no base64":     {[]byte(mark + "~\n" + string(whole)), "illegal base64"},
		"no gzip":       {lined(token, seal(t, token, []byte("x"))), "EOF"},
		"no end":        {whole[:len(whole)-3], "end is missing"},
		"nothing":       {[]byte(mark + ".\n"), "end is missing"},
		"a long line":   {[]byte(mark + strings.Repeat("A", 2*maxLine) + "\n" + string(whole)), "has no end"},
		"not sealed":    {lined(token, archive), "not what /skep-job sealed"},
		"a check sum":   {lined(token, seal(t, token, flip(archive, -8))), "invalid checksum"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tree := filepath.Join(dir, "tree")
			write(t, tree, map[string]string{"old": "x"})
			s := NewSplitter(key, io.Discard)
			if _, err := s.Write(c.said); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Unpack(tree); !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Unpack = %v, want %q", err, c.want)
			}
			for name := range files(t, dir) {
				if name != "tree/artefacts/old" {
					t.Errorf("%s is there", name)
				}
			}
			if err := s.Discard(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A job that goes on and on does not fill the worker's disk.
func TestEndless(t *testing.T) {
	key := newKey(t)
	s := NewSplitter(key, io.Discard)
	line := []byte(opening + string(key.Token()) + " " + base64.StdEncoding.EncodeToString(make([]byte, lineBytes)) + "\n")
	for range maxSealed/lineBytes + 100 {
		if _, err := s.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	info, err := s.spool.Stat()
	if err != nil || info.Size() > maxSealed {
		t.Errorf("the spool has %d bytes, %v", info.Size(), err)
	}
	if _, err := s.Unpack(t.TempDir()); !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("Unpack = %v", err)
	}
	if err := s.Discard(); err != nil {
		t.Error(err)
	}
}

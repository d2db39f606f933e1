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
	token := NewToken()
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
		s := NewSplitter(token, &out)
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
	other := NewSplitter(NewToken(), &out)
	if _, err := other.Write(said.Bytes()); err != nil || other.Close() != nil || other.Begun() || !bytes.Equal(out.Bytes(), said.Bytes()) {
		t.Errorf("another run's splitter took %d bytes of %d, %v", said.Len()-out.Len(), said.Len(), err)
	}
}

func TestNoteAlone(t *testing.T) {
	var said bytes.Buffer
	if err := Write(&said, "token", "", Note{Memory: true}); err != nil {
		t.Fatal(err)
	}
	s := NewSplitter("token", io.Discard)
	if _, err := s.Write(said.Bytes()); err != nil {
		t.Fatal(err)
	}
	if note, err := s.Unpack(""); err != nil || !note.Memory || note.Answer != nil {
		t.Errorf("note %+v, %v", note, err)
	}
}

// forge makes lines as a job could that knows the token.
func forge(t *testing.T, headers []*tar.Header, content string) []byte {
	t.Helper()
	var archive, said bytes.Buffer
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
	for part := range slices.Chunk(archive.Bytes(), lineBytes) {
		said.WriteString(opening + "token " + base64.StdEncoding.EncodeToString(part) + "\n")
	}
	said.WriteString(opening + "token .\n")
	return said.Bytes()
}

// Whatever a job hands back, nothing of it lies outside, nothing of it is more
// than a job may leave, and a part of it is nothing.
func TestForged(t *testing.T) {
	reg := func(name string) *tar.Header { return &tar.Header{Typeflag: tar.TypeReg, Name: name} }
	many := []*tar.Header{}
	for i := range artefact.MaxFiles + 1 {
		many = append(many, reg("files/"+strings.Repeat("x", i+1)))
	}
	large := []*tar.Header{}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		large = append(large, reg("files/"+name))
	}
	whole := forge(t, []*tar.Header{reg("files/a"), reg(noteName)}, "{}")
	for name, c := range map[string]struct {
		said []byte
		want string
	}{
		"up":            {forge(t, []*tar.Header{reg("files/a"), reg("files/../../up"), reg(noteName)}, "{}"), "no name of a file"},
		"up and down":   {forge(t, []*tar.Header{reg("files/a/../b"), reg(noteName)}, "{}"), "no name of a file"},
		"root":          {forge(t, []*tar.Header{reg("files/a"), reg("files//etc/up"), reg(noteName)}, "{}"), "no name of a file"},
		"elsewhere":     {forge(t, []*tar.Header{reg("files/a"), reg("up"), reg(noteName)}, "{}"), "no name of a file"},
		"a link":        {forge(t, []*tar.Header{{Typeflag: tar.TypeSymlink, Name: "files/a", Linkname: "/etc"}, reg("files/a/up"), reg(noteName)}, "{}"), "is no file"},
		"a hard link":   {forge(t, []*tar.Header{{Typeflag: tar.TypeLink, Name: "files/a", Linkname: "/etc/passwd"}, reg(noteName)}, "{}"), "is no file"},
		"a device":      {forge(t, []*tar.Header{{Typeflag: tar.TypeBlock, Name: "files/a", Devmajor: 8}, reg(noteName)}, "{}"), "is no file"},
		"twice":         {forge(t, []*tar.Header{reg("files/a"), reg("files/a"), reg(noteName)}, "{}"), "exists"},
		"below a file":  {forge(t, []*tar.Header{reg("files/a"), reg("files/a/b"), reg(noteName)}, "{}"), "file exists"},
		"many":          {forge(t, append(many, reg(noteName)), "{}"), "more files"},
		"a large file":  {forge(t, []*tar.Header{reg("files/a"), reg(noteName)}, strings.Repeat("x", artefact.MaxFile+1)), "larger ones"},
		"a lot":         {forge(t, large, strings.Repeat("x", artefact.MaxFile)), "more files"},
		"two answers":   {forge(t, []*tar.Header{reg("files/a"), reg(answerName), reg(answerName), reg(noteName)}, "{}"), "two answers"},
		"a long answer": {forge(t, []*tar.Header{reg("files/a"), reg(answerName), reg(noteName)}, strings.Repeat("x", MaxAnswer)+"x"), "larger ones"},
		"no note":       {forge(t, []*tar.Header{reg("files/a")}, "{}"), "EOF"},
		"a broken note": {forge(t, []*tar.Header{reg("files/a"), reg(noteName)}, "{"), "EOF"},
		"no base64":     {[]byte(opening + "token ~\n" + string(whole)), "illegal base64"},
		"no gzip":       {[]byte(opening + "token eA==\n" + opening + "token .\n"), "EOF"},
		"no end":        {whole[:len(whole)-3], "end is missing"},
		"nothing":       {[]byte(opening + "token .\n"), "end is missing"},
		"a long line":   {[]byte(opening + "token " + strings.Repeat("A", 2*maxLine) + "\n" + string(whole)), "has no end"},
		"a flipped bit": {change(t, whole, 40), "cannot be read"},
		"a check sum":   {change(t, whole, -8), "invalid checksum"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tree := filepath.Join(dir, "tree")
			write(t, tree, map[string]string{"old": "x"})
			s := NewSplitter("token", io.Discard)
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

// change changes a byte of the archive in the one line that said has before its
// end: from its end if at is negative.
func change(t *testing.T, said []byte, at int) []byte {
	t.Helper()
	line, last, _ := strings.Cut(string(said), "\n")
	start, text, _ := strings.Cut(line, " ")
	archive, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += len(archive)
	}
	archive[at] ^= 1
	return []byte(start + " " + base64.StdEncoding.EncodeToString(archive) + "\n" + last)
}

// A job that goes on and on does not fill the worker's disk.
func TestEndless(t *testing.T) {
	s := NewSplitter("token", io.Discard)
	line := []byte(opening + "token " + base64.StdEncoding.EncodeToString(make([]byte, lineBytes)) + "\n")
	for range maxArchive/lineBytes + 100 {
		if _, err := s.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	info, err := s.spool.Stat()
	if err != nil || info.Size() > maxArchive {
		t.Errorf("the spool has %d bytes, %v", info.Size(), err)
	}
	if _, err := s.Unpack(t.TempDir()); !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("Unpack = %v", err)
	}
	if err := s.Discard(); err != nil {
		t.Error(err)
	}
}

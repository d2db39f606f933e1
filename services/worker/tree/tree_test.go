package tree_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"skep/services/worker/tree"
)

func pack(t *testing.T, headers ...tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, h := range headers {
		content := h.PAXRecords["x"] // the test's own
		h.PAXRecords, h.Size = nil, int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return &b
}

func file(name, content string, mode int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, PAXRecords: map[string]string{"x": content}}
}

func link(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
}

// list names what is in a folder; links with their targets.
func list(t *testing.T, dir string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.Type() == fs.ModeSymlink {
			target, err := os.Readlink(path)
			found = append(found, name+" -> "+target)
			return err
		}
		content, err := os.ReadFile(path)
		found = append(found, name+"="+string(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestUnpack(t *testing.T) {
	for name, c := range map[string]struct {
		in    []tar.Header
		strip int
		want  []string
		fails string
	}{
		"files":              {in: []tar.Header{file("a", "1", 0o644), file("b/c", "2", 0o755)}, want: []string{"a=1", "b/c=2"}},
		"stripped":           {in: []tar.Header{file("top/a", "1", 0o644), file("top", "x", 0o644)}, strip: 1, want: []string{"a=1"}},
		"dots stay inside":   {in: []tar.Header{file("../../a", "1", 0o644)}, want: []string{"a=1"}},
		"absolute":           {in: []tar.Header{file("/etc/a", "1", 0o644)}, want: []string{"etc/a=1"}},
		"link inside":        {in: []tar.Header{link("b/l", "../a")}, want: []string{"b/l -> ../a"}},
		"link outside":       {in: []tar.Header{link("b/l", "../../a"), link("m", "/etc/passwd")}},
		"through a link":     {in: []tar.Header{link("l", "l2"), link("l2", "."), file("l/a", "1", 0o644)}, want: []string{"a=1", "l -> l2", "l2 -> ."}},
		"over a link":        {in: []tar.Header{link("l", "a"), file("l", "1", 0o644)}, fails: "exists"},
		"device":             {in: []tar.Header{{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}}},
		"hard link":          {in: []tar.Header{{Typeflag: tar.TypeLink, Name: "h", Linkname: "/etc/passwd"}}},
		"same file twice":    {in: []tar.Header{file("a", "1", 0o644), file("a", "2", 0o644)}, fails: "exists"},
		"a file that is big": {in: []tar.Header{file("a", strings.Repeat("x", 64<<20+1), 0o644)}, fails: "64 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			err := tree.Unpack(pack(t, c.in...), dir, c.strip)
			if c.fails != "" {
				if !errors.Is(err, tree.ErrUnusable) || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("got %v, want ErrUnusable with %q", err, c.fails)
				}
				return
			}
			if got := list(t, dir); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

// A bomb is stopped while it unpacks, whatever its headers promise.
func TestBomb(t *testing.T) {
	was := tree.SetMaxTree(8 << 20)
	defer tree.SetMaxTree(was)
	if was != 512<<20 {
		t.Errorf("a tree may have %d bytes", was)
	}
	var headers []tar.Header
	content := strings.Repeat("x", 1<<20)
	for _, name := range strings.Split("abcdefghi", "") {
		headers = append(headers, file(name, content, 0o644))
	}
	err := tree.Unpack(pack(t, headers...), t.TempDir(), 0)
	if !errors.Is(err, tree.ErrUnusable) || !strings.Contains(err.Error(), "more than 8 MiB") {
		t.Errorf("got %v", err)
	}
}

// What is packed comes out as it was, without what Unpack would refuse.
func TestPack(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	err := errors.Join(
		os.WriteFile(filepath.Join(from, "run"), []byte("1"), 0o755),
		os.MkdirAll(filepath.Join(from, "d", "empty"), 0o755),
		os.WriteFile(filepath.Join(from, "d", "f"), nil, 0o600),
		os.Symlink("../run", filepath.Join(from, "d", "in")),
		os.Symlink("/etc/passwd", filepath.Join(from, "out")),
	)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tree.Pack(from, &b); err != nil {
		t.Fatal(err)
	}
	if err := tree.Unpack(&b, to, 0); err != nil {
		t.Fatal(err)
	}
	if got, want := list(t, to), []string{"d/f=", "d/in -> ../run", "run=1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if info, err := os.Stat(filepath.Join(to, "run")); err != nil || info.Mode() != 0o755 {
		t.Errorf("run has mode %v (%v)", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Join(to, "d", "empty")); err != nil || !info.IsDir() {
		t.Error("an empty folder is lost", err)
	}
}

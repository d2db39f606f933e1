package azuredevops_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/integration/azuredevops"
)

// zipped is a zip with one entry for each header.
func zipped(t *testing.T, content string, headers ...*zip.FileHeader) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, h := range headers {
		f, err := w.CreateHeader(h)
		if err == nil && !strings.HasSuffix(h.Name, "/") {
			_, err = io.WriteString(f, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func file(name string, mode fs.FileMode) *zip.FileHeader {
	h := &zip.FileHeader{Name: name, Method: zip.Deflate}
	h.SetMode(mode)
	return h
}

// serve gives a commit an archive.
func serve(t *testing.T, content []byte) (*azuredevops.Forge, controlplane.Commit) {
	t.Helper()
	f, forge := start(t, options())
	c, err := f.Push("main", map[string]string{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	f.ReplaceArchive(c, content)
	return forge, c
}

func TestArchiveKeepsModes(t *testing.T) {
	forge, c := serve(t, zipped(t, "target", file("d/", fs.ModeDir|0o755), file("d/run.sh", 0o755), file("d/link", fs.ModeSymlink|0o777), file("plain", 0o600)))
	body, err := forge.Archive(t.Context(), full, c)
	if err != nil {
		t.Fatal(err)
	}
	unzipped, err := gzip.NewReader(body)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(unzipped)
	if err != nil || !bytes.HasSuffix(content, make([]byte, 1024)) {
		t.Errorf("the tar has no end: %v", err)
	}
	type entry struct {
		Name, Link string
		Type       byte
		Mode       int64
		Size       int64
	}
	var got []entry
	for archive := tar.NewReader(bytes.NewReader(content)); ; {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, entry{h.Name, h.Linkname, h.Typeflag, h.Mode, h.Size})
	}
	folder := "swarm-" + string(c) + "/"
	want := []entry{
		{folder, "", tar.TypeDir, 0o755, 0}, {folder + "d/", "", tar.TypeDir, 0o755, 0}, {folder + "d/run.sh", "", tar.TypeReg, 0o755, 6},
		{folder + "d/link", "target", tar.TypeSymlink, 0o777, 0}, {folder + "plain", "", tar.TypeReg, 0o644, 6},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
}

func TestArchiveRefuses(t *testing.T) {
	lying := zipped(t, strings.Repeat("x", 1000), file("bomb", 0o644))
	// The size in the central directory, which stands 24 bytes into its entry.
	at := bytes.LastIndex(lying, []byte("PK\x01\x02"))
	lying[at+24], lying[at+25] = 10, 0
	huge := bytes.Clone(lying)
	copy(huge[at+24:], "\xff\xff\xff\xf0")
	broken := zipped(t, strings.Repeat("x", 1000), file("a", 0o644))
	broken[len("PK\x03\x04")+40] ^= 0xff

	for name, test := range map[string]struct {
		content []byte
		want    error
	}{
		"up":         {zipped(t, "x", file("../evil", 0o644)), nil},
		"deep up":    {zipped(t, "x", file("a/../../evil", 0o644)), nil},
		"absolute":   {zipped(t, "x", file("/etc/passwd", 0o644)), nil},
		"backslash":  {zipped(t, "x", file(`..\evil`, 0o644)), nil},
		"nul":        {zipped(t, "x", file("a\x00b", 0o644)), nil},
		"device":     {zipped(t, "x", file("null", fs.ModeDevice|fs.ModeCharDevice|0o666)), nil},
		"no zip":     {[]byte("<html>"), zip.ErrFormat},
		"empty":      {nil, zip.ErrFormat},
		"wrong size": {lying, nil},
		"huge":       {huge, integration.ErrTooLarge},
		"broken":     {broken, nil},
	} {
		forge, c := serve(t, test.content)
		body, err := forge.Archive(t.Context(), full, c)
		if err == nil {
			_, err = io.Copy(io.Discard, body)
			body.Close()
		}
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: %v; want %v", name, err, test.want)
		}
	}
}

func TestArchiveEndsEarly(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	forge, c := serve(t, zipped(t, strings.Repeat("0123456789abcdef", 1<<17), file("a", 0o644), file("b", 0o644)))
	// Close waits for the writer, who is stuck in a pipe that nobody reads.
	body, err := forge.Archive(t.Context(), full, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if body, err = forge.Archive(ctx, full, c); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, body); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled archive: %v", err)
	}
	body.Close()
	if left, err := os.ReadDir(temporary); err != nil || len(left) != 0 {
		t.Errorf("there are left %v, %v", left, err)
	}
}

package azuredevops

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"path"
	"strings"
	"testing"

	"skep/services/controlplane/integration"
)

func TestIdentityBase(t *testing.T) {
	for in, want := range map[string]string{
		"https://dev.azure.com": "https://vssps.dev.azure.com/", "https://tfs.example.com/tfs": "https://tfs.example.com/tfs/",
		"https://dev.azure.com.example.com": "https://dev.azure.com.example.com/",
	} {
		base, err := integration.ParseBase(in, integration.Options{})
		if err != nil {
			t.Fatal(err)
		}
		before := *base
		if got := identityBase(base); got.String() != want || *base != before {
			t.Errorf("%s: people are at %s, want %s", in, got, want)
		}
	}
}

// FuzzConvert: whatever a zip says, no entry of the tar stands outside of its
// folder or is anything but a file, a folder or a link.
func FuzzConvert(f *testing.F) {
	for _, name := range []string{"a/b", "../a", "/a", "a/../../b", `a\..\b`, "a//b", "./a", "a/", "C:x", "a\x00"} {
		var out bytes.Buffer
		w := zip.NewWriter(&out)
		entry, err := w.Create(name)
		if err == nil && !strings.HasSuffix(name, "/") {
			_, err = entry.Write([]byte("content"))
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			f.Fatal(err)
		}
		f.Add(out.Bytes())
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		file, err := spool(bytes.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		body, err := convert(t.Context(), file, "top")
		if err != nil {
			return
		}
		defer body.Close()
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return // what was written before something was wrong
		}
		for archive := tar.NewReader(unzipped); ; {
			h, err := archive.Next()
			if err != nil {
				break
			}
			if clean := path.Clean(h.Name); clean != "top" && !strings.HasPrefix(clean, "top/") || strings.ContainsAny(h.Name, "\\\x00") {
				t.Errorf("an entry is called %q", h.Name)
			}
			if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir && h.Typeflag != tar.TypeSymlink || h.Mode&^0o777 != 0 {
				t.Errorf("%q is of type %q with mode %o", h.Name, h.Typeflag, h.Mode)
			}
			if _, err := io.Copy(io.Discard, archive); err != nil {
				break
			}
		}
	})
}

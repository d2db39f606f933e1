package boot

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

func TestReadFileVariables(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	got := map[string]string{}
	err := ReadFileVariables([]string{
		"TOKEN_FILE=" + write("token", "s3cret\n"),
		"WINDOWS_FILE=" + write("windows", "line\r\n"),
		"TWO_FILE=" + write("two", "a\n\n"),
		"SET_FILE=" + write("set", "from the file"),
		"SET=already",
		"EMPTY_FILE=" + write("empty", ""),
		"MISSING_FILE=" + filepath.Join(dir, "missing"),
		"UNUSED_FILE=",
		"_FILE=" + filepath.Join(dir, "token"),
		"PROFILE=" + filepath.Join(dir, "token"),
	}, func(name, value string) error {
		got[name] = value
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"TOKEN": "s3cret", "WINDOWS": "line", "TWO": "a\n", "EMPTY": ""}
	if !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := ReadFileVariables([]string{"DIR_FILE=" + dir}, nil); err == nil {
		t.Error("a file that cannot be read is no error")
	}
}

func TestHealthcheck(t *testing.T) {
	for status, healthy := range map[int]bool{200: true, 308: true, 404: false, 503: false} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "https://nowhere.invalid/")
			w.WriteHeader(status)
		}))
		if err := Healthcheck(t.Context(), server.URL); (err == nil) != healthy {
			t.Errorf("%d: got %v, want healthy %v", status, err, healthy)
		}
		server.Close()
		if Healthcheck(t.Context(), server.URL) == nil {
			t.Error("a closed server is healthy")
		}
	}
}

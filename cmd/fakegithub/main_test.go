package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skep/internal/logtest"
)

// What Git pushes is delivered, signed.
func TestPush(t *testing.T) {
	heard := make(chan string, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("X-Hub-Signature-256") == "" {
			t.Errorf("got %v, %v", r.Header, err)
		}
		heard <- r.Header.Get("X-GitHub-Event") + " " + string(body)
	}))
	defer hook.Close()
	t.Setenv("FAKEGITHUB_TOKEN", "t")
	t.Setenv("FAKEGITHUB_SECRET", "0123456789abcdef")
	folder := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	var out logtest.Buffer
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"-listen", "127.0.0.1:0", "-folder", folder, "-repository", "acme/home", "-hook", hook.URL}, nil, &out, &out)
	}()
	wait := func(want string) string {
		t.Helper()
		select {
		case got := <-heard:
			if !strings.HasPrefix(got, want) {
				t.Fatalf("heard %.80q, not %s", got, want)
			}
			return got
		case <-time.After(2 * time.Minute):
			t.Fatalf("no %s was heard:\n%s", want, &out)
		}
		return ""
	}
	wait("ping")
	work := t.TempDir()
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"}, {"-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"},
		{"push", "-q", filepath.Join(folder, "acme/home.git"), "main"},
	} {
		if out, err := exec.Command("git", append([]string{"-C", work}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	if got := wait("push"); !strings.Contains(got, `"ref":"refs/heads/main"`) {
		t.Errorf("heard %.300q", got)
	}
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("exit code %d\n%s", code, &out)
	}
}

func TestUsage(t *testing.T) {
	for name, args := range map[string][]string{"nothing": nil, "a bad name": {"-folder", "x", "-hook", "http://h", "-repository", "home"}} {
		var out bytes.Buffer
		if code := run(t.Context(), args, nil, &out, &out); code != 2 || !strings.Contains(out.String(), "Example:") {
			t.Errorf("%s: exit code %d\n%s", name, code, &out)
		}
	}
}

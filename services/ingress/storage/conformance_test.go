package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"skep/internal/postgrestest"
)

// TestConformance holds Caddy's own storage and ours against one contract.
func TestConformance(t *testing.T) {
	t.Run("file_system", func(t *testing.T) {
		conformance(t, func(t *testing.T) certmagic.Storage { return &certmagic.FileStorage{Path: t.TempDir()} })
	})
	t.Run("postgres", func(t *testing.T) {
		server := postgrestest.Start(t)
		conformance(t, func(t *testing.T) certmagic.Storage { return newStore(t, server.Database(t)) })
	})
}

func conformance(t *testing.T, open func(*testing.T) certmagic.Storage) {
	fill := func(t *testing.T, keys ...string) certmagic.Storage {
		s := open(t)
		for _, k := range keys {
			if err := s.Store(t.Context(), k, []byte("value of "+k)); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}

	t.Run("load what was stored", func(t *testing.T) {
		s := open(t)
		for _, value := range [][]byte{[]byte("one"), {0, 255, 0}, {}, bytes.Repeat([]byte("long"), 1<<18)} {
			if err := s.Store(t.Context(), "a/b.key", value); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Load(t.Context(), "a/b.key"); err != nil || !bytes.Equal(got, value) {
				t.Errorf("got %d bytes (%v), want %d", len(got), err, len(value))
			}
		}
	})
	t.Run("missing", func(t *testing.T) {
		s := fill(t, "a/b")
		for _, k := range []string{"x", "a/x", "a/b/c"} {
			_, load := s.Load(t.Context(), k)
			_, stat := s.Stat(t.Context(), k)
			_, list := s.List(t.Context(), k, true)
			for operation, err := range map[string]error{"load": load, "stat": stat, "list": list} {
				// A file has nothing below it, which a file system says in another way.
				if k != "a/b/c" && !errors.Is(err, fs.ErrNotExist) || err == nil {
					t.Errorf("%s %s: got %v, want fs.ErrNotExist", operation, k, err)
				}
			}
			if k != "a/b/c" && s.Exists(t.Context(), k) {
				t.Errorf("%s exists", k)
			}
			if err := s.Delete(t.Context(), k); k != "a/b/c" && err != nil {
				t.Errorf("delete %s: %v", k, err)
			}
		}
		if _, err := s.Load(t.Context(), "a"); err == nil {
			t.Error("a folder was loaded")
		}
	})
	t.Run("a prefix ends at a slash", func(t *testing.T) {
		s := fill(t, "a/b", "ab/c", "a-b/c", "a0")
		if err := s.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		for k, want := range map[string]bool{"a": false, "a/b": false, "ab": true, "ab/c": true, "a-b/c": true, "a0": true} {
			if got := s.Exists(t.Context(), k); got != want {
				t.Errorf("exists %s: got %v, want %v", k, got, want)
			}
		}
	})
	t.Run("wildcards are letters", func(t *testing.T) {
		s := fill(t, "a_b/x", "acb/x", "a%/x")
		for _, k := range []string{"a_b", "a%"} {
			if got, err := s.List(t.Context(), k, true); err != nil || len(got) != 1 {
				t.Errorf("list %s: got %v (%v)", k, got, err)
			}
		}
	})
	t.Run("list", func(t *testing.T) {
		s := fill(t, "c/acme/x/x.crt", "c/acme/x/x.key", "c/acme/y/y.crt", "c/local", "d/e")
		for _, c := range []struct {
			prefix    string
			recursive bool
			want      string
		}{
			{"c", false, "c/acme c/local"},
			{"c", true, "c/acme c/acme/x c/acme/x/x.crt c/acme/x/x.key c/acme/y c/acme/y/y.crt c/local"},
			{"c/acme", false, "c/acme/x c/acme/y"},
			{"c/acme/x", false, "c/acme/x/x.crt c/acme/x/x.key"},
			{"c/local", true, ""},
			{"", false, "c d"},
		} {
			got, err := s.List(t.Context(), c.prefix, c.recursive)
			slices.Sort(got)
			if err != nil || strings.Join(got, " ") != c.want {
				t.Errorf("list %q %v: got %v (%v), want %s", c.prefix, c.recursive, got, err, c.want)
			}
		}
	})
	t.Run("stat", func(t *testing.T) {
		s := fill(t, "a/b")
		before, err := s.Stat(t.Context(), "a/b")
		if err != nil || before.Key != "a/b" || !before.IsTerminal || before.Size != int64(len("value of a/b")) || before.Modified.IsZero() {
			t.Errorf("got %+v (%v)", before, err)
		}
		if dir, err := s.Stat(t.Context(), "a"); err != nil || dir.Key != "a" || dir.IsTerminal {
			t.Errorf("a folder: got %+v (%v)", dir, err)
		}
		if err := s.Store(t.Context(), "a/b", nil); err != nil {
			t.Fatal(err)
		}
		if after, err := s.Stat(t.Context(), "a/b"); err != nil || after.Size != 0 || after.Modified.Before(before.Modified) {
			t.Errorf("got %+v after %+v (%v)", after, before, err)
		}
	})
	t.Run("writers do not mix", func(t *testing.T) {
		s := open(t)
		failed := make(chan error, 8)
		for i := range cap(failed) {
			go func() { failed <- s.Store(t.Context(), "a", bytes.Repeat([]byte{byte(i)}, 100_000)) }()
		}
		for range cap(failed) {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
		got, err := s.Load(t.Context(), "a")
		if err != nil || len(got) != 100_000 || !bytes.Equal(got, bytes.Repeat(got[:1], len(got))) {
			t.Errorf("got a mixture of %d bytes (%v)", len(got), err)
		}
	})
	t.Run("lock", func(t *testing.T) {
		s := open(t)
		if err := s.Lock(t.Context(), "issue_example.com"); err != nil {
			t.Fatal(err)
		}
		if err := s.Lock(t.Context(), "issue_example.org"); err != nil {
			t.Error("another name:", err)
		}
		if ok, err := s.(certmagic.TryLocker).TryLock(t.Context(), "issue_example.com"); ok || err != nil {
			t.Errorf("try: got %v (%v)", ok, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := s.Lock(ctx, "issue_example.com"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}

		second := make(chan error)
		go func() { second <- s.Lock(t.Context(), "issue_example.com") }()
		select {
		case err := <-second:
			t.Fatalf("it was locked twice (%v)", err)
		default:
		}
		if err := s.Unlock(t.Context(), "issue_example.com"); err != nil {
			t.Error(err)
		}
		if err := <-second; err != nil {
			t.Error(err)
		}
		for _, name := range []string{"issue_example.com", "issue_example.org"} {
			if err := s.Unlock(t.Context(), name); err != nil {
				t.Error(err)
			}
		}
		if err := s.Unlock(t.Context(), "issue_example.com"); err == nil {
			t.Error("it was unlocked twice")
		}
	})
	t.Run("one at a time", func(t *testing.T) {
		s := open(t)
		failed := make(chan error, 4)
		inside := make(chan struct{}, 1)
		for range cap(failed) {
			go func() {
				failed <- func() error {
					if err := s.Lock(t.Context(), "l"); err != nil {
						return err
					}
					select {
					case inside <- struct{}{}:
					default:
						return fmt.Errorf("two are inside")
					}
					if err := s.Store(t.Context(), "a", []byte("x")); err != nil {
						return err
					}
					<-inside
					return s.Unlock(t.Context(), "l")
				}()
			}()
		}
		for range cap(failed) {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
	})
}

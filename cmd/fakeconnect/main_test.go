package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skep/internal/porttest"
	"skep/secrets"
	"skep/secrets/onepassword"
)

func TestRun(t *testing.T) {
	items := filepath.Join(t.TempDir(), "items.yaml")
	write := func(version int, value string) {
		content := fmt.Sprintf("demo: {db: {version: %d, fields: {password: %s}}}\n", version, value)
		// A time of its own, whatever the resolution of the file system, from that of
		// files in images on; and in one piece, for the server may be reading.
		at := time.Unix(int64(version-1), 0)
		next := items + ".new"
		if err := errors.Join(os.WriteFile(next, []byte(content), 0o600), os.Chtimes(next, at, at), os.Rename(next, items)); err != nil {
			t.Fatal(err)
		}
	}
	write(1, "first")
	t.Setenv(onepassword.TokenVariable, "demo-token")
	address := porttest.Address(t)
	ctx, cancel := context.WithCancel(t.Context())
	var stderr bytes.Buffer
	done := make(chan int)
	go func() { done <- run(ctx, []string{"-listen", address, "-items", items}, nil, nil, &stderr) }()
	client, err := onepassword.New("http://"+address, onepassword.StaticToken("demo-token"), onepassword.Config{Tries: 20, RetryPause: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r, err := secrets.ParseReference("op://demo/db/password")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"first", "second"} {
		version := i + 1
		write(version, want)
		a := client.Read(t.Context(), []secrets.Reference{r})[r]
		if got, _ := a.Value.Bytes(); a.Err != nil || string(got) != want || a.Item.Version != fmt.Sprint(version) {
			t.Errorf("got %q at version %s, %v", got, a.Item.Version, a.Err)
		}
	}
	cancel()
	if code := <-done; code != 0 || strings.Contains(stderr.String(), "demo-token") {
		t.Errorf("exit code %d\n%s", code, &stderr)
	}
}

func TestUsage(t *testing.T) {
	for args, want := range map[string]int{"-h": 0, "": 2, "-items x extra": 2, "-nonsense": 2, "-items /nowhere": 1} {
		t.Setenv(onepassword.TokenVariable, "token")
		var stderr bytes.Buffer
		if got := run(t.Context(), strings.Fields(args), nil, nil, &stderr); got != want {
			t.Errorf("%q: exit code %d, want %d\n%s", args, got, want, &stderr)
		}
	}
}

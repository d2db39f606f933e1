package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/secrets/onepassword"
)

// secretless is a project that has one reference under a profile.
const secretless = `name: app
services:
  web:
    image: whoami:test
    mem_limit: 64m
  extra:
    profiles: [more]
    image: whoami:test
    environment: {TOKEN_FILE: op://test/i9/f}
    mem_limit: 64m
`

// skepIn runs a command on a project and returns what it wrote to both outputs.
func skepIn(t *testing.T, dir string, want int, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if code := run(ctx, append([]string{"skep", "-C", dir}, args...), nil, &out, &out); code != want {
		t.Fatalf("skep %s: exit code %d, want %d\n%s", strings.Join(args, " "), code, want, &out)
	}
	return out.String()
}

// A project that names no secret needs no store, and what it no longer names
// leaves the lock with a word.
func TestSecretsSyncWithoutReferences(t *testing.T) {
	engine := startFakeEngine(t)
	for _, v := range []string{"OP_CONNECT_HOST", onepassword.TokenVariable, onepassword.TokenFileVariable} {
		t.Setenv(v, "")
	}
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"cluster.yaml": secretsCluster, "app/stack.yaml": secretless, "secrets.lock": "references:\n  op://test/i9/f: 1\n",
	})
	const dropped = "drop     op://test/i9/f from secrets.lock: nothing that was read names it\n"
	for _, command := range []string{"plan", "sync"} {
		contains(t, skepIn(t, dir, exitDone, "secrets", command), dropped, "Secrets: the project has no references.\n", "--profile")
	}
	if out := skepIn(t, dir, exitDone, "secrets", "sync"); out != "Secrets: the project has no references.\n" {
		t.Errorf("again: %s", out)
	}
	contains(t, skepIn(t, dir, exitDone, "secrets", "sync", "--json"), `"dropped": []`)
	contains(t, skepIn(t, dir, exitUsage, "--profile", "more", "secrets", "sync"), "the address of 1Password Connect is not known")
	contains(t, skepIn(t, dir, exitUsage, "secrets", "watch"), "the address of 1Password Connect is not known")
	if got := engine.names(); len(got) != 0 {
		t.Errorf("the Swarm has %q", got)
	}
}

func TestDeclaredSecrets(t *testing.T) {
	got := declaredSecrets(map[string]any{"secrets": map[string]any{
		"named": map[string]any{"name": "app_named_v1"}, "bare": nil, "text": "x", "number": map[string]any{"name": 1},
	}})
	if !slices.Equal(got, []string{"bare", "app_named_v1", "number", "text"}) {
		t.Errorf("got %q", got)
	}
	for _, compose := range []map[string]any{nil, {"secrets": nil}, {"secrets": []any{"a"}}} {
		if got := declaredSecrets(compose); len(got) != 0 {
			t.Errorf("%v declares %q", compose, got)
		}
	}
}

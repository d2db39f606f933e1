package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"skep/internal/postgrestest"
)

// The credentials are for this user's eyes, and stay what they are.
func TestHatchetCredentials(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "hatchet")
	credentials := []string{"skep-server", "hatchet", "credentials", "--url", "https://hatchet.example.com", folder}
	var out bytes.Buffer
	if code := run(t.Context(), credentials, nil, &out, &out); code != exitDone {
		t.Fatalf("exit code %d:\n%s", code, &out)
	}
	seen := map[string]bool{}
	for _, name := range []string{"master-keyset", "jwt-private-keyset", "jwt-public-keyset", "cookie-secrets", "token"} {
		file := filepath.Join(folder, name)
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
		if len(content) < 32 || seen[string(content)] || strings.Contains(out.String(), string(content)) {
			t.Errorf("%s has %d bytes, or is not the only one, or is shown", name, len(content))
		}
		seen[string(content)] = true
	}
	if code := run(t.Context(), credentials, nil, &out, &out); code != exitFailed || !strings.Contains(out.String(), "takes no others") {
		t.Errorf("a second time: exit code %d:\n%s", code, &out)
	}
}

// The job that prepares an engine's database may run again.
func TestHatchetPrepare(t *testing.T) {
	server := postgrestest.Start(t)
	folder := t.TempDir()
	prepare := func() (int, string) {
		var out bytes.Buffer
		code := run(t.Context(), []string{"skep-server", "hatchet", "prepare"}, nil, &out, &out)
		return code, out.String()
	}
	database := filepath.Join(folder, "database")
	if err := os.WriteFile(database, []byte(server.Database(t)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Hatchet reads and sets these for the whole process.
	for name, value := range map[string]string{"SKEP_HATCHET_DATABASE_URL_FILE": database, "SKEP_HATCHET_TOKEN": "planted.token.text", "DATABASE_URL": "", "DATABASE_LOGGER_LEVEL": ""} {
		t.Setenv(name, value)
	}
	if code, said := prepare(); code != exitFailed || !strings.Contains(said, "skep-server hatchet credentials") || strings.Contains(said, "planted") {
		t.Errorf("with a token that is none: exit code %d:\n%s", code, said)
	}
	made := filepath.Join(folder, "hatchet")
	var out bytes.Buffer
	if code := run(t.Context(), []string{"skep-server", "hatchet", "credentials", "--url", "https://hatchet.example.com", made}, nil, &out, &out); code != exitDone {
		t.Fatalf("exit code %d:\n%s", code, &out)
	}
	t.Setenv("SKEP_HATCHET_TOKEN", "")
	t.Setenv("SKEP_HATCHET_TOKEN_FILE", filepath.Join(made, "token"))
	stdout := os.Stdout
	defer func() { os.Stdout = stdout }()
	for range 2 {
		if code, said := prepare(); code != exitDone || !strings.Contains(said, "is at this version") {
			t.Errorf("exit code %d:\n%s", code, said)
		}
	}
	content, err := os.ReadFile(database)
	if err != nil {
		t.Fatal(err)
	}
	db, err := pgx.Connect(t.Context(), strings.TrimSpace(string(content)))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(t.Context())
	var tokens int
	if err := db.QueryRow(t.Context(), `SELECT count(*) FROM "APIToken" WHERE NOT revoked AND "expiresAt" > now()`).Scan(&tokens); err != nil || tokens != 1 {
		t.Errorf("the engine's database has %d tokens, %v", tokens, err)
	}
}

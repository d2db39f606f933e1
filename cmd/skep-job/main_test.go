package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"skep/services/worker/tree"
)

// command makes the test binary what a job runs.
const command = "SKEP_JOB_TEST_COMMAND"

func TestMain(m *testing.M) {
	switch os.Getenv(command) {
	case "":
		os.Exit(m.Run())
	case "tell":
		content, err := os.ReadFile("dir/file")
		if err != nil {
			panic(err)
		}
		os.Stdout.WriteString("it says " + string(content) + " and hun")
		os.Stdout.WriteString("ter22\n")
		os.Stderr.WriteString("hunter22\n")
		if err := errors.Join(os.Mkdir("artefacts", 0o755), os.WriteFile("artefacts/report", nil, 0o644)); err != nil {
			panic(err)
		}
		os.Exit(3)
	}
}

func TestRun(t *testing.T) {
	from, parts, work, hide := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	var archive bytes.Buffer
	if err := errors.Join(os.Mkdir(filepath.Join(from, "dir"), 0o755), os.WriteFile(filepath.Join(from, "dir", "file"), []byte("hello"), 0o644),
		os.WriteFile(filepath.Join(hide, "token"), []byte("hunter22\n"), 0o400), tree.Pack(from, &archive)); err != nil {
		t.Fatal(err)
	}
	content := archive.Bytes()
	for name, part := range map[string][]byte{"000": content[:10], "001": content[10:50], "002": content[50:]} {
		if err := os.WriteFile(filepath.Join(parts, name), part, 0o444); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(command, "tell")
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"-tree", parts, "-work", work, "-secrets", hide, "--", os.Args[0]}, &stdout, &stderr)
	if want := "it says hello and [redacted]\n"; code != 3 || stdout.String() != want {
		t.Errorf("exit code %d, %q; want 3, %q", code, stdout.String(), want)
	}
	if want := "[redacted]\nskep-job: artefacts are not kept where jobs run in a Swarm: report\n"; stderr.String() != want {
		t.Errorf("it complains %q, want %q", stderr.String(), want)
	}
}

func TestRunFails(t *testing.T) {
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "000"), []byte("no gzip"), 0o444); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no command":     {nil, 2, "Usage:"},
		"no such flag":   {[]string{"-x"}, 2, "not defined"},
		"help":           {[]string{"-h"}, 0, "Example:"},
		"no tree":        {[]string{"-tree", broken, "--", "true"}, 125, "cannot be used"},
		"no such binary": {[]string{"--", "/no/such/binary"}, 127, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			args := append([]string{"-work", t.TempDir(), "-secrets", filepath.Join(broken, "none")}, c.args...)
			if code := run(t.Context(), args, &out, &errs); code != c.code || !strings.Contains(errs.String(), c.want) {
				t.Errorf("exit code %d, %q; want %d, %q", code, errs.String(), c.code, c.want)
			}
		})
	}
}

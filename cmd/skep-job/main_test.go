package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"skep/services/worker/artefact"
	"skep/services/worker/postscript"
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
		os.Exit(3)
	case "leave", "stay":
		if err := errors.Join(os.MkdirAll("artefacts", 0o755), os.WriteFile("artefacts/report", []byte("it left this"), 0o644)); err != nil {
			panic(err)
		}
		ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		for _, v := range os.Environ() {
			if strings.HasPrefix(v, "SKEP_JOB_") && !strings.HasPrefix(v, command) {
				os.Stdout.WriteString("it knows " + v)
			}
		}
		os.Stdout.WriteString("it knows nothing")
		if os.Getenv(command) == "leave" {
			os.Exit(3)
		}
		<-ended.Done()
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
	if want := "[redacted]\n"; stderr.String() != want {
		t.Errorf("it complains %q, want %q", stderr.String(), want)
	}
}

func newKey(t *testing.T) postscript.Key {
	t.Helper()
	key, err := postscript.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// What a command leaves comes after what it says, for who has the token; the
// command knows nothing of it.
func TestRunHandsBack(t *testing.T) {
	key := newKey(t)
	for name, c := range map[string]struct {
		command   string
		artefacts string
		deadlines []string // the next one if the command has not begun in the last
		code      int
		late      bool
		left      string
	}{
		"artefacts": {"leave", "1", []string{"1h"}, 3, false, "it left this"},
		"a note":    {"leave", "", []string{"1h"}, 3, false, ""},
		"late":      {"stay", "1", []string{"5s", "20s", "1m"}, 0, true, "it left this"},
	} {
		t.Run(name, func(t *testing.T) {
			work, back := t.TempDir(), t.TempDir()
			t.Setenv(command, c.command)
			t.Setenv(postscript.TokenVariable, string(key.Token()))
			t.Setenv(postscript.ArtefactsVariable, c.artefacts)
			var stdout, stderr, rest bytes.Buffer
			var code int
			for _, deadline := range c.deadlines {
				t.Setenv(postscript.DeadlineVariable, deadline)
				stdout.Reset()
				code = run(t.Context(), []string{"-work", work, "-secrets", filepath.Join(work, "none"), "--", os.Args[0]}, &stdout, &stderr)
				if bytes.HasPrefix(stdout.Bytes(), []byte("it knows")) {
					break
				}
			}
			if code != c.code || stderr.Len() > 0 {
				t.Errorf("exit code %d, %q; want %d", code, stderr.String(), c.code)
			}
			split := postscript.NewSplitter(key, &rest)
			if _, err := split.Write(stdout.Bytes()); err != nil {
				t.Fatal(err)
			}
			if c.artefacts == "" {
				back = ""
			}
			note, err := split.Unpack(back)
			if note.Begun.IsZero() || note.Ready.Before(note.Begun) || note.Ended.Before(note.Ready) {
				t.Errorf("it began at %v, was ready at %v and ended at %v", note.Begun, note.Ready, note.Ended)
			}
			if err != nil || note.Late != c.late || rest.String() != "it knows nothing" {
				t.Errorf("note %+v, %v; it said %q", note, err, rest.String())
			}
			if content, _ := os.ReadFile(filepath.Join(back, "artefacts", "report")); string(content) != c.left {
				t.Errorf("it left %q", content)
			}
		})
	}
}

// What the worker asked for is whole, and what people see is masked.
func TestRunAnswers(t *testing.T) {
	key := newKey(t)
	for asked, want := range map[string]string{"1": "it knows nothing", "": ""} {
		hide := t.TempDir()
		if err := os.WriteFile(filepath.Join(hide, "token"), []byte("nothing"), 0o400); err != nil {
			t.Fatal(err)
		}
		t.Setenv(command, "leave")
		t.Setenv(postscript.TokenVariable, string(key.Token()))
		t.Setenv(postscript.AnswerVariable, asked)
		var stdout, stderr, rest bytes.Buffer
		if code := run(t.Context(), []string{"-work", t.TempDir(), "-secrets", hide, "--", os.Args[0]}, &stdout, &stderr); code != 3 || stderr.Len() > 0 {
			t.Errorf("exit code %d, %q", code, stderr.String())
		}
		split := postscript.NewSplitter(key, &rest)
		if _, err := split.Write(stdout.Bytes()); err != nil {
			t.Fatal(err)
		}
		note, err := split.Unpack("")
		if err != nil || string(note.Answer) != want || (note.Answer == nil) != (asked == "") || rest.String() != "it knows [redacted]" {
			t.Errorf("the answer is %q, %v; it said %q", note.Answer, err, rest.String())
		}
	}
}

// A job that somebody ends hands back that it has ended, and no more.
func TestRunIsEnded(t *testing.T) {
	key := newKey(t)
	t.Setenv(command, "stay")
	t.Setenv(postscript.TokenVariable, string(key.Token()))
	t.Setenv(postscript.ArtefactsVariable, "1")
	t.Setenv(postscript.AnswerVariable, "1")
	ctx, end := context.WithCancel(t.Context())
	var stderr, said bytes.Buffer
	out := writerFunc(func(p []byte) (int, error) {
		end()
		return said.Write(p)
	})
	if code := run(ctx, []string{"-work", t.TempDir(), "-secrets", "none", "--", os.Args[0]}, out, &stderr); code != 0 || stderr.Len() > 0 {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
	back := t.TempDir()
	split := postscript.NewSplitter(key, io.Discard)
	if _, err := split.Write(said.Bytes()); err != nil {
		t.Fatal(err)
	}
	note, err := split.Unpack(back)
	if left, _ := os.ReadDir(filepath.Join(back, artefact.Folder)); err != nil || note.Answer != nil || len(left) > 0 {
		t.Errorf("it hands back %+v and %v, %v", note, left, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestOOMKills(t *testing.T) {
	for events, want := range map[string]int{
		"low 0\nhigh 0\nmax 5\noom 2\noom_kill 1\noom_group_kill 0\n": 1, // version 2
		"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n":               3, // version 1
		"oom_kill_disable 0\nunder_oom 0\n":                           0, // of old kernels
		"oom_kill many\n":                                             0,
	} {
		if got := oomKills([]byte(events)); got != want {
			t.Errorf("%d of %q, want %d", got, events, want)
		}
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
		"no time":        {[]string{"--", "true"}, 2, "no time that a command may take"},
		"no key":         {[]string{"--", "true"}, 2, "SKEP_JOB_POSTSCRIPT: it is no public key"},
		"no such binary": {[]string{"--", "/no/such/binary"}, 127, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			switch name {
			case "no time":
				t.Setenv(postscript.DeadlineVariable, "soon")
			case "no key":
				t.Setenv(postscript.TokenVariable, "of-an-older-worker")
			}
			args := append([]string{"-work", t.TempDir(), "-secrets", filepath.Join(broken, "none")}, c.args...)
			if code := run(t.Context(), args, &out, &errs); code != c.code || !strings.Contains(errs.String(), c.want) {
				t.Errorf("exit code %d, %q; want %d, %q", code, errs.String(), c.code, c.want)
			}
		})
	}
}

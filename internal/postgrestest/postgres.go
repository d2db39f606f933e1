// Package postgrestest runs a private PostgreSQL for tests: a data folder, a
// socket and a password of its own, no port, and nothing left when the test
// ends.
package postgrestest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"skep/internal/processtest"
)

// Server is a PostgreSQL server that a test owns.
type Server struct {
	dir      string // the data folder, the socket and the log
	bin      string // initdb and postgres
	password string
	run      *syscall.Credential // nil: as the test itself
	server   *processtest.Process
}

// last lets a server take its children and its shared memory along.
const last = syscall.SIGQUIT

// Start runs a server until the test ends. Without PostgreSQL it skips the
// test, or fails it when SKEP_NO_SKIP is 1.
func Start(t testing.TB) *Server {
	t.Helper()
	s := newServer()
	if err := s.find(); err != nil {
		if os.Getenv("SKEP_NO_SKIP") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "skep-postgres-") // not t.TempDir: a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	s.dir = dir
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("PostgreSQL's last words:\n%s", s.lastLog())
		}
		if err := s.halt(syscall.SIGQUIT); err != nil {
			t.Errorf("stop PostgreSQL: %v", err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := s.init(); err != nil {
		t.Fatalf("initdb: %v", err)
	}
	s.Resume(t)
	return s
}

func newServer() *Server { return &Server{password: rand.Text()} }

// find looks for the server's programs, which Debian keeps out of PATH, and
// for the user to run them as: PostgreSQL refuses to be root.
func (s *Server) find() error {
	installed, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return err
	}
	if onPath, err := exec.LookPath("postgres"); err == nil {
		installed = append(installed, onPath)
	}
	if len(installed) == 0 {
		return errors.New("a private PostgreSQL needs postgres: install the package postgresql")
	}
	s.bin = filepath.Dir(installed[len(installed)-1])
	if os.Getuid() != 0 {
		return nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("a private PostgreSQL needs a user to run as: %w", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return err
	}
	s.run = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return nil
}

func (s *Server) init() error {
	passwords := filepath.Join(s.dir, "password")
	if err := os.WriteFile(passwords, []byte(s.password+"\n"), 0o600); err != nil {
		return err
	}
	defer os.Remove(passwords)
	if s.run != nil {
		for _, path := range []string{s.dir, passwords} {
			if err := os.Chown(path, int(s.run.Uid), int(s.run.Gid)); err != nil {
				return err
			}
		}
	}
	cmd := s.command("initdb", "-D", s.data(), "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-A", "scram-sha-256", "--pwfile="+passwords)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := processtest.Run(cmd, last); err != nil {
		return fmt.Errorf("%w\n%s", err, &out)
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.run}
	return cmd
}

// Resume starts the server again after Halt, with the same data and address.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	if err := s.wait(); err != nil {
		t.Fatalf("PostgreSQL is not ready: %v", err)
	}
}

// Halt ends the server and every connection to it.
func (s *Server) Halt(t testing.TB) {
	t.Helper()
	if err := s.halt(syscall.SIGINT); err != nil {
		t.Fatalf("stop PostgreSQL: %v", err)
	}
}

// Crash ends the server at once, as a power cut does for those who use it: it
// writes nothing down, and has to recover when it is resumed.
func (s *Server) Crash(t testing.TB) {
	t.Helper()
	if err := s.halt(syscall.SIGQUIT); err != nil {
		t.Fatalf("stop PostgreSQL: %v", err)
	}
}

func (s *Server) start() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"-D", s.data()}
	for _, setting := range []string{
		"timezone=UTC", "listen_addresses=", "unix_socket_directories=" + s.dir, "fsync=off", "shared_buffers=16MB",
		"max_connections=100", "dynamic_shared_memory_type=mmap",
	} {
		args = append(args, "-c", setting)
	}
	cmd := s.command("postgres", args...)
	cmd.Stdout, cmd.Stderr = log, log
	s.server, err = processtest.Start(cmd, last)
	return err
}

func (s *Server) wait() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.DSN())
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-tick.C:
		case <-s.server.Ended():
			return fmt.Errorf("it ended:\n%s", s.lastLog())
		case <-ctx.Done():
			return err
		}
	}
}

// halt ends the server and waits until it is gone: SIGINT writes everything
// down first, SIGQUIT does not.
func (s *Server) halt(how syscall.Signal) error {
	if s.server == nil {
		return nil
	}
	return s.server.End(how)
}

func (s *Server) lastLog() string {
	content, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-8000):])
}

// DSN is the address of the database postgres, as its superuser.
func (s *Server) DSN() string { return s.address("postgres") }

// Password is part of every DSN, for tests that look for it where it must not be.
func (s *Server) Password() string { return s.password }

func (s *Server) address(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", s.password), Path: "/" + database,
		RawQuery: url.Values{"host": {s.dir}}.Encode(),
	}
	return u.String()
}

// Database creates an empty database and returns its address.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text())
	s.Exec(t, s.DSN(), "CREATE DATABASE "+name)
	return s.address(name)
}

// Exec runs statements on the database of a DSN.
func (s *Server) Exec(t testing.TB, dsn string, statements ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatalf("connect to PostgreSQL: %v", err)
	}
	defer conn.Close(ctx)
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

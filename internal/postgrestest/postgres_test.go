package postgrestest

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestServer(t *testing.T) {
	var dir string
	var pid int
	t.Run("while it runs", func(t *testing.T) {
		s := Start(t)
		dir, pid = s.dir, s.server.Pid
		dsn := s.Database(t)
		s.Exec(t, dsn, "CREATE TABLE bee (name text)", "INSERT INTO bee VALUES ('queen')")

		s.Halt(t)
		if _, err := pgx.Connect(t.Context(), dsn); err == nil {
			t.Error("it answers although it was halted")
		}
		s.Resume(t)
		pid = s.server.Pid
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		var name string
		if err := conn.QueryRow(t.Context(), "SELECT name FROM bee").Scan(&name); err != nil || name != "queen" {
			t.Errorf("got %q (%v), want what was there before", name, err)
		}

		wrong, err := url.Parse(dsn)
		if err != nil {
			t.Fatal(err)
		}
		wrong.User = url.UserPassword("postgres", "wrong")
		if _, err := pgx.Connect(t.Context(), wrong.String()); err == nil || !strings.Contains(err.Error(), "28P01") {
			t.Errorf("a wrong password: got %v", err)
		}
	})
	if dir == "" {
		t.SkipNow()
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left (%v)", dir, err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is left (%v)", pid, err)
	}
}

func TestShared(t *testing.T) {
	var shared Shared
	for range 2 {
		t.Run("a test", func(t *testing.T) {
			s := shared.Server(t)
			s.Exec(t, s.Database(t), "CREATE TABLE bee (name text)")
		})
	}
	if shared.server == nil {
		t.SkipNow()
	}
	dir, pid := shared.server.dir, shared.server.server.Pid
	if err := shared.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left (%v)", dir, err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is left (%v)", pid, err)
	}
}

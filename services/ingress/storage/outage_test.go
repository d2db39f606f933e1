package storage

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/internal/logtest"
	"skep/internal/polltest"
	"skep/internal/postgrestest"
)

const (
	siteKey = "certificates/local/a.example.com/a.example.com.key"
	rootKey = "pki/authorities/local/root.key"
)

func TestDatabaseAway(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.Database(t)
	dir := t.TempDir()
	before := openStore(t, dsn, dir, testPace)
	for _, k := range []string{siteKey, rootKey} {
		if err := before.Store(t.Context(), k, []byte(k)); err != nil {
			t.Fatal(err)
		}
	}
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		if info, err := d.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v (%v)", path, info.Mode(), err)
		}
		return nil
	})
	if err != nil || files != 2 {
		t.Fatalf("the copy has %d files (%v)", files, err)
	}
	before.Destruct()
	server.Halt(t)

	// An ingress that starts now.
	var said logtest.Buffer
	s, err := open(t.Context(), dsn, dir, alonePace, logger(&said))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Destruct()
	if got, err := s.Load(t.Context(), siteKey); err != nil || string(got) != siteKey {
		t.Errorf("load: got %q (%v)", got, err)
	}
	if !s.Exists(t.Context(), siteKey) || !s.Exists(t.Context(), "pki") || s.Exists(t.Context(), "certificates/local/b.example.com") {
		t.Error("exists does not tell what the copy has")
	}
	if got, err := s.List(t.Context(), "certificates/local", true); err != nil || !slices.Equal(got, []string{"certificates/local/a.example.com", siteKey}) {
		t.Errorf("list: got %v (%v)", got, err)
	}
	if got, err := s.Stat(t.Context(), siteKey); err != nil || !got.IsTerminal || got.Size != int64(len(siteKey)) {
		t.Errorf("stat: got %+v (%v)", got, err)
	}

	// A certificate may be new, but a CA's root that only this ingress has not
	// seen must not be made again.
	if _, err := s.Load(t.Context(), "certificates/local/b.example.com/b.example.com.key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unknown certificate: got %v", err)
	}
	if _, err := s.Load(t.Context(), "pki/authorities/other/root.key"); !errors.Is(err, ErrUnavailable) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unknown root: got %v", err)
	}

	_, try := s.TryLock(t.Context(), "l")
	for what, err := range map[string]error{
		"store": s.Store(t.Context(), siteKey, []byte("new")), "delete": s.Delete(t.Context(), siteKey),
		"lock": s.Lock(t.Context(), "l"), "try lock": try,
	} {
		if !errors.Is(err, ErrUnavailable) || errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), server.Password()) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if got, err := s.Load(t.Context(), siteKey); err != nil || string(got) != siteKey {
		t.Errorf("load after the failures: got %q (%v)", got, err)
	}

	server.Resume(t)
	if err := s.Store(t.Context(), siteKey, []byte("new")); err != nil {
		t.Error(err)
	}
	if got, err := newStore(t, dsn).Load(t.Context(), siteKey); err != nil || string(got) != "new" {
		t.Errorf("another ingress: got %q (%v)", got, err)
	}
	for _, want := range []string{"the database is away", "the database is back", dir} {
		if strings.Count(said.String(), want) != 1 {
			t.Errorf("it does not say %q once:\n%s", want, said.String())
		}
	}
	if strings.Contains(said.String(), server.Password()) {
		t.Error("the log holds the password")
	}
}

// Whoever reads the log must know whether to look for the server or for what it
// says.
func TestDatabaseRefuses(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.Database(t)
	server.Exec(t, dsn, "CREATE ROLE guest LOGIN PASSWORD 'honey'")
	for name, c := range map[string]struct{ old, new, says string }{
		"no such database":   {"/test_", "/other_", "does not exist"},
		"a wrong password":   {server.Password(), "nectar", "authentication failed"},
		"no right to tables": {"postgres:" + server.Password(), "guest:honey", "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			var said logtest.Buffer
			s, err := open(t.Context(), strings.Replace(dsn, c.old, c.new, 1), t.TempDir(), testPace, logger(&said))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Destruct()
			if err := s.Store(t.Context(), siteKey, nil); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
			if text := said.String(); strings.Count(text, "the database refuses") != 1 || strings.Contains(text, "away") || !strings.Contains(text, c.says) {
				t.Errorf("it says:\n%s", text)
			}
		})
	}

	var said logtest.Buffer
	s, err := open(t.Context(), strings.Replace(dsn, "postgres:"+server.Password(), "guest:honey", 1), t.TempDir(), alonePace, logger(&said))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Destruct()
	for range 2 {
		_ = s.Store(t.Context(), siteKey, nil)
	}
	server.Halt(t)
	for range 2 {
		_ = s.Store(t.Context(), siteKey, nil)
	}
	if text := said.String(); strings.Count(text, "the database refuses") != 1 || strings.Count(text, "the database is away") != 1 {
		t.Errorf("it does not say once that it refuses and once that it is away:\n%s", text)
	}
}

// Reads find out by themselves that the database is back, and what others have
// changed meanwhile.
func TestReadsComeBack(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.Database(t)
	s, other := newStore(t, dsn), newStore(t, dsn)
	if err := other.Store(t.Context(), siteKey, []byte("old")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Load(t.Context(), siteKey); err != nil || string(got) != "old" {
		t.Fatalf("got %q (%v)", got, err)
	}
	server.Halt(t)
	if got, err := s.Load(t.Context(), siteKey); err != nil || string(got) != "old" {
		t.Fatalf("got %q (%v), want the copy", got, err)
	}
	server.Resume(t)
	if err := other.Store(t.Context(), siteKey, []byte("new")); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, func() error {
		got, err := s.Load(t.Context(), siteKey)
		if err == nil && string(got) != "new" {
			err = errors.New("it reads the copy")
		}
		return err
	})
}

// A restart that falls between two calls is no outage: connections of the pool
// are dead, and the call is made again on a new one.
func TestRestartBetweenCalls(t *testing.T) {
	server := postgrestest.Start(t)
	var said logtest.Buffer
	s, err := open(t.Context(), server.Database(t), t.TempDir(), alonePace, logger(&said))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Destruct()
	for range 3 {
		if err := s.Store(t.Context(), siteKey, []byte("x")); err != nil {
			t.Error(err)
		}
		server.Halt(t)
		server.Resume(t)
	}
	if _, err := s.Load(t.Context(), siteKey); err != nil || strings.Contains(said.String(), "away") {
		t.Errorf("got %v; it says:\n%s", err, said.String())
	}
}

func TestDatabaseHangs(t *testing.T) {
	dir, err := os.MkdirTemp("", "skep-hangs-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	silent, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	p := testPace
	p.timeout = 100 * time.Millisecond
	copied := t.TempDir()
	s := openStore(t, "host="+dir+" user=bee password=honey dbname=hive sslmode=disable", copied, p)
	if err := s.copy.keep(t.Context(), siteKey, item{value: []byte("kept")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if got, err := s.Load(ctx, siteKey); err != nil || string(got) != "kept" {
		t.Errorf("load: got %q (%v)", got, err)
	}
	for what, err := range map[string]error{"store": s.Store(ctx, siteKey, nil), "lock": s.Lock(ctx, "l")} {
		if !errors.Is(err, ErrUnavailable) || ctx.Err() != nil || strings.Contains(err.Error(), "honey") {
			t.Errorf("%s: got %v", what, err)
		}
	}
	// What certmagic tries a storage with waits, and goes when its caller does.
	short, end := context.WithTimeout(t.Context(), 10*s.pace.retry)
	defer end()
	if err := s.Store(short, trialPrefix+"1", nil); short.Err() == nil || err == nil {
		t.Errorf("a trial does not wait: %v", err)
	}
	gone, stop := context.WithCancel(t.Context())
	stop()
	if err := s.Store(gone, siteKey, nil); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
		t.Errorf("a caller that gave up: got %v", err)
	}
}

func TestCopy(t *testing.T) {
	server := postgrestest.Start(t)
	t.Run("follows", func(t *testing.T) { testCopyFollows(t, server) })
	t.Run("fails", func(t *testing.T) { testCopyFails(t, server) })
}

func testCopyFollows(t *testing.T, server *postgrestest.Server) {
	dsn := server.Database(t)
	dir := t.TempDir()
	s, other := openStore(t, dsn, dir, testPace), newStore(t, dsn)
	for _, k := range []string{"a/kept", "a/pruned", "a/missed"} {
		if err := s.Store(t.Context(), k, []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	it, err := s.db.load(t.Context(), "a/kept")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Store(t.Context(), "a/kept", []byte("2")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), "a/kept"); err != nil {
		t.Fatal(err)
	}
	// A slow reader comes with what it read before.
	if err := s.copy.keep(t.Context(), "a/kept", it); err != nil {
		t.Error(err)
	}
	if got, err := s.copy.files.Load(t.Context(), "a/kept"); err != nil || string(got) != "2" {
		t.Errorf("got %q (%v), want what is newer", got, err)
	}

	// What another ingress deletes goes when it is read, or after a start.
	for _, k := range []string{"a/pruned", "a/missed"} {
		if err := other.Delete(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Load(t.Context(), "a/missed"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if s.copy.files.Exists(t.Context(), "a/missed") {
		t.Error("the copy has what was deleted")
	}
	if _, err := s.Load(t.Context(), "a"); !errors.Is(err, fs.ErrNotExist) || !s.copy.files.Exists(t.Context(), "a/kept") {
		t.Errorf("loading a folder emptied it (%v)", err)
	}
	s.Destruct()
	again := openStore(t, dsn, dir, testPace)
	polltest.Until(t, func() error {
		if again.copy.files.Exists(t.Context(), "a/pruned") {
			return errors.New("the copy has what was deleted")
		}
		return nil
	})
	if got, err := again.copy.files.Load(t.Context(), "a/kept"); err != nil || !bytes.Equal(got, []byte("2")) {
		t.Errorf("got %q (%v)", got, err)
	}
}

// A copy that cannot be written costs a warning.
func testCopyFails(t *testing.T, server *postgrestest.Server) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var said logtest.Buffer
	s, err := open(t.Context(), server.Database(t), file, testPace, logger(&said))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Destruct()
	if err := s.Store(t.Context(), siteKey, []byte("x")); err != nil {
		t.Error(err)
	}
	if got, err := s.Load(t.Context(), siteKey); err != nil || string(got) != "x" {
		t.Errorf("got %q (%v)", got, err)
	}
	if !strings.Contains(said.String(), "the local copy is incomplete") {
		t.Errorf("it says:\n%s", said.String())
	}
}

func TestKeysStayInTheCopy(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, "host=/nonexistent", filepath.Join(dir, "copy"), testPace)
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"../secret", "/../secret", "a/../../secret"} {
		if got, err := s.Load(t.Context(), k); err == nil {
			t.Errorf("load %s: got %q", k, got)
		}
	}
	for _, k := range []string{"", "/", "..", "a\x00b", "\xff"} {
		if err := s.Store(t.Context(), k, nil); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("store %q: got %v", k, err)
		}
		if err := s.Delete(t.Context(), k); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("delete %q: got %v", k, err)
		}
	}
}

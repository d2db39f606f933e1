package postgrestest

import (
	"os"
	"sync"
	"syscall"
	"testing"
)

// Shared is one server for all tests of a package, which take a database each.
// It starts with the first test that asks for it; TestMain stops it:
//
//	func TestMain(m *testing.M) {
//		code := m.Run()
//		shared.Stop()
//		os.Exit(code)
//	}
//
// A test that halts its server needs one of its own: Start.
type Shared struct {
	once   sync.Once
	server *Server
	absent error // there is no PostgreSQL here
	failed error
}

// Server is the server. Without PostgreSQL it skips the test, or fails it when
// SKEP_NO_SKIP is 1.
func (s *Shared) Server(t testing.TB) *Server {
	t.Helper()
	s.once.Do(s.start)
	switch {
	case s.absent != nil && os.Getenv("SKEP_NO_SKIP") == "1":
		t.Fatal(s.absent)
	case s.absent != nil:
		t.Skip(s.absent)
	case s.failed != nil:
		t.Fatalf("start PostgreSQL: %v", s.failed)
	}
	return s.server
}

func (s *Shared) start() {
	server := newServer()
	if s.absent = server.find(); s.absent != nil {
		return
	}
	if server.dir, s.failed = os.MkdirTemp("", "skep-postgres-"); s.failed != nil {
		return
	}
	s.server = server
	for _, step := range []func() error{server.init, server.start, server.wait} {
		if s.failed = step(); s.failed != nil {
			return
		}
	}
}

// Stop ends the server, if it was started, and removes what it left.
func (s *Shared) Stop() error {
	if s.server == nil {
		return nil
	}
	if err := s.server.halt(syscall.SIGQUIT); err != nil {
		return err
	}
	return os.RemoveAll(s.server.dir)
}

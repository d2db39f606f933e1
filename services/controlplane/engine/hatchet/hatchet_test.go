package hatchet

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"

	"skep/services/controlplane/engine"
)

// Somebody else who listens on the engine's port is not taken for it.
func TestForeignListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := Config{Port: l.Addr().(*net.TCPAddr).Port}
	if err := c.free(t.Context()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the port is free: %v", err)
	}
	ended, over := make(chan error, 1), errors.New("the address is in use")
	ended <- over
	token := func() (string, error) { return "t", nil }
	err = c.announce(t.Context(), token, ended, func(a engine.Address) error {
		t.Errorf("an engine that ended is announced at %v", a.Port)
		return nil
	})
	if !errors.Is(err, over) {
		t.Errorf("announce = %v", err)
	}

	// With an engine that goes on it is the engine.
	ready := errors.New("ready")
	if err := c.announce(t.Context(), token, make(chan error), func(engine.Address) error { return ready }); !errors.Is(err, ready) {
		t.Errorf("announce = %v", err)
	}
	l.Close()
	if err := c.free(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.announce(ctx, token, make(chan error), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("announce = %v", err)
	}
}

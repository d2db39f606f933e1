package socket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"skep/internal/polltest"
	"skep/internal/porttest"
)

// serve opens a share that greets with its name, and returns how to close it.
func serve(t *testing.T, address, name string) (closeShare func()) {
	t.Helper()
	return serveIn(t, t.Context(), address, name)
}

func serveIn(t *testing.T, ctx context.Context, address, name string) (closeShare func()) {
	t.Helper()
	parsed, err := caddy.ParseNetworkAddress(Network + "/" + address)
	if err != nil {
		t.Fatal(err)
	}
	l, err := parsed.Listen(ctx, 0, net.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	listener, done := l.(net.Listener), make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("%s: accept: %v", name, err)
				}
				return
			}
			io.WriteString(conn, name)
			conn.Close()
		}
	}()
	return func() {
		if err := listener.Close(); err != nil {
			t.Errorf("close %s: %v", name, err)
		}
		<-done
	}
}

// greeting is who serves a connection.
func greeting(t *testing.T, address string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	text, err := io.ReadAll(conn)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func TestTheNewestAccepts(t *testing.T) {
	address := porttest.Address(t)
	want := func(name string) {
		t.Helper()
		for range 5 {
			if got := greeting(t, address); got != name {
				t.Fatalf("%q serves, want %q", got, name)
			}
		}
	}
	closeOne := serve(t, address, "one")
	want("one")
	closeTwo := serve(t, address, "two")
	want("two")
	closeOne()
	want("two")
	closeThree := serve(t, address, "three")
	closeThree() // Caddy refused that configuration
	want("two")
	closeTwo()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("the socket is open behind its last share: %v", err)
	}
	l.Close()
	defer serve(t, address, "again")()
	want("again")
}

// TestOneThatFailsYields: Caddy ends the context of a configuration that fails
// before it shuts its servers down.
func TestOneThatFailsYields(t *testing.T) {
	address := porttest.Address(t)
	defer serve(t, address, "one")()
	ctx, fail := context.WithCancel(t.Context())
	defer serveIn(t, ctx, address, "two")()
	fail()
	polltest.Until(t, func() error {
		if got := greeting(t, address); got != "one" {
			return fmt.Errorf("%q serves", got)
		}
		return nil
	})
	defer serve(t, address, "three")()
	if got := greeting(t, address); got != "three" {
		t.Errorf("%q serves, want %q", got, "three")
	}
}

// TestNoConnectionIsLost changes shares while connections are made.
func TestNoConnectionIsLost(t *testing.T) {
	address := porttest.Address(t)
	closeLast := serve(t, address, "x")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 2000 {
			next := serve(t, address, "x")
			closeLast()
			closeLast = next
		}
	}()
	for n := 0; ; n++ {
		select {
		case <-done:
			closeLast()
			if n == 0 {
				t.Error("no connection was made")
			}
			return
		default:
		}
		if got := greeting(t, address); got != "x" {
			t.Errorf("connection %d: %s", n, got)
			<-done
		}
	}
}

func TestAddressInUse(t *testing.T) {
	address := porttest.Address(t)
	taken, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	parsed, err := caddy.ParseNetworkAddress(Network + "/" + address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parsed.Listen(t.Context(), 0, net.ListenConfig{}); err == nil {
		t.Fatal("the address is somebody else's")
	}
	if len(open) != 0 {
		t.Errorf("remembered: %v", open)
	}
}

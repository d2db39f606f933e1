package engine_test

import (
	"context"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"skep/services/controlplane/engine"
)

// linkDelay is far longer than a process takes to end.
const linkDelay = 500 * time.Millisecond

// newLink is an address at which an engine answers late. What a client has sent
// is lost if the client ends before it arrives.
func newLink(t *testing.T, to engine.Address) engine.Address {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var done sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		listener.Close()
		done.Wait()
	})
	far := net.JoinHostPort(to.Host, strconv.Itoa(to.Port))
	done.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			done.Go(func() { carry(ctx, near, far) })
		}
	})
	to.Port = listener.Addr().(*net.TCPAddr).Port
	return to
}

// carry returns when one of the two ends has ended, or ctx.
func carry(ctx context.Context, near net.Conn, to string) {
	far, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
	if err != nil {
		near.Close()
		return // the client tries again
	}
	ctx, cancel := context.WithCancel(ctx)
	there, back := make(chan piece, 1024), make(chan piece, 1024)
	var parts sync.WaitGroup
	parts.Go(func() { defer cancel(); read(ctx, near, there) })
	parts.Go(func() { defer cancel(); read(ctx, far, back) })
	parts.Go(func() { defer cancel(); write(ctx, far, there) })
	parts.Go(func() { defer cancel(); write(ctx, near, back) })
	<-ctx.Done()
	near.Close()
	far.Close()
	parts.Wait()
}

// piece is what was read at a time, and when it arrives.
type piece struct {
	content []byte
	due     time.Time
}

func read(ctx context.Context, from net.Conn, pieces chan<- piece) {
	for {
		buffer := make([]byte, 32<<10)
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		select {
		case pieces <- piece{buffer[:n], time.Now().Add(linkDelay)}:
		case <-ctx.Done():
			return
		}
	}
}

func write(ctx context.Context, to net.Conn, pieces <-chan piece) {
	for {
		select {
		case p := <-pieces:
			select {
			case <-time.After(time.Until(p.due)):
			case <-ctx.Done():
				return
			}
			if _, err := to.Write(p.content); err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

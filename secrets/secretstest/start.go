package secretstest

import (
	"context"
	"net"
	"testing"
)

// Start runs the server on an address of its own until the test ends, and
// returns its URL.
func Start(t testing.TB, c *Connect) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	Run(t, c, l)
	return "http://" + l.Addr().String()
}

// Run answers on a listener until the test ends.
func Run(t testing.TB, c *Connect, l net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Connect: %v", err)
		}
	})
}

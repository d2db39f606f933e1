// Package polltest waits for what happens at a time that a test does not know.
package polltest

import (
	"testing"
	"time"
)

const (
	// limit is generous: machines of a CI are slow, and it is waited for in full
	// only by a test that fails.
	limit    = 3 * time.Minute
	interval = 20 * time.Millisecond
)

// Until calls f until it returns nil. After three minutes the test ends with the last
// error: it says what is not as it should be.
func Until(t testing.TB, f func() error) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("after %v: %v", limit, err)
		}
	}
}

package logtest_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"skep/internal/logtest"
)

// Lines that come at once are all there, none inside another. The race detector
// sees the rest.
func TestBuffer(t *testing.T) {
	var b logtest.Buffer
	const writers, each = 8, 100
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				fmt.Fprintf(&b, "writer %d, line %d\n", w, i)
				if !strings.Contains(b.String(), fmt.Sprintf("writer %d, line %d\n", w, i)) {
					t.Errorf("line %d of writer %d is not there", i, w)
				}
			}
		})
	}
	all.Wait()
	seen := map[string]bool{}
	for line := range strings.Lines(b.String()) {
		seen[line] = true
	}
	if len(seen) != writers*each {
		t.Errorf("%d different lines, want %d", len(seen), writers*each)
	}
}

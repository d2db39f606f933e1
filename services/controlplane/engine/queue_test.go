package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"skep/services/controlplane"
)

// A worker does what comes first for a run of its own, unless that is more
// urgent and others take it.
func TestDoes(t *testing.T) {
	const critical, normal, batch = controlplane.Critical, controlplane.Normal, controlplane.Batch
	for name, c := range map[string]struct {
		takes []controlplane.Priority
		class controlplane.Priority // of the run that waits
		first controlplane.Run
		want  bool
	}{
		"itself":                    {[]controlplane.Priority{batch}, batch, controlplane.Run{ID: "own"}, true},
		"the same class":            {[]controlplane.Priority{batch}, batch, controlplane.Run{ID: "r", Priority: batch}, true},
		"a lower one":               {[]controlplane.Priority{critical}, critical, controlplane.Run{ID: "r", Priority: batch}, true},
		"a higher one":              {[]controlplane.Priority{normal}, normal, controlplane.Run{ID: "r", Priority: critical}, false},
		"a higher one that is ours": {[]controlplane.Priority{critical, normal}, normal, controlplane.Run{ID: "r", Priority: critical}, true},
		"none that is known":        {[]controlplane.Priority{critical}, critical, controlplane.Run{ID: "r", Priority: "soon"}, false},
	} {
		h := &handler{classes: c.takes}
		if got := h.does(c.first, "own", c.class); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A run without a queue that another worker is at does not come again at once.
func TestBusyComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &handler{drain: make(chan struct{}), do: func(context.Context, controlplane.RunID, bool) error {
			return fmt.Errorf("step 1: %w", controlplane.ErrBusy)
		}}
		for inTurn, want := range map[bool]time.Duration{false: 0, true: settle} {
			began := time.Now() // of the bubble: exact
			if err := h.queued(t.Context(), controlplane.Normal, input{Run: "r"}, inTurn, false); !errors.Is(err, controlplane.ErrBusy) {
				t.Errorf("in turn %v: %v", inTurn, err)
			}
			if took := time.Since(began); took != want {
				t.Errorf("in turn %v: after %v", inTurn, took)
			}
		}
		close(h.drain)
		if err := h.queued(t.Context(), controlplane.Normal, input{Run: "r"}, true, false); !errors.Is(err, errDraining) {
			t.Errorf("a worker that ends waits: %v", err)
		}
	})
}

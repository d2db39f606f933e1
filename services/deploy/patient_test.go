package deploy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// An engine that is no manager, and was none, is no outage. A manager that starts
// says that it prepares.
func TestAnEngineThatIsNoManager(t *testing.T) {
	for text, waited := range map[string]bool{
		`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`: false,
		"This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state.":                                 false,
		"This node is not a swarm manager. Manager is being prepared or has trouble connecting to the cluster.":                         true,
	} {
		f := newFake()
		looks := 0
		f.fault = func(call string, after bool) error {
			if call != "nodes" || after {
				return nil
			}
			if looks++; looks > 1 {
				return nil
			}
			return fmt.Errorf("%w: %s", errdefs.ErrUnavailable, text)
		}
		p := &patient{engine: f, patience: time.Minute}
		if _, err := p.Nodes(t.Context()); (err == nil) != waited || (looks > 1) != waited {
			t.Errorf("%q: %v after %d looks", text, err, looks)
		}
	}
}

// Going back waits out what going forward does.
func TestRollbackOfALeaderlessSwarm(t *testing.T) {
	f := newFake()
	mustDeploy(t, f, project(t, appV1))
	mustDeploy(t, f, project(t, appV2))
	var told bool
	away := 3
	f.fault = func(string, bool) error {
		if away--; away >= 0 {
			return fmt.Errorf("%w: the swarm does not have a leader", errdefs.ErrUnavailable)
		}
		return nil
	}
	o := quick()
	o.Report = func(e Event) { told = told || e.Verb == Pausing }
	if _, target, err := Rollback(t.Context(), f, "app", 0, o); err != nil || target.Number != 1 || !told {
		t.Errorf("to %d, %v, told %v", target.Number, err, told)
	}
	if _, _, err := Rollback(t.Context(), newFake(), "", 0, quick()); err == nil || strings.Contains(err.Error(), `""`) || Hint(err) == "" {
		t.Errorf("without a revision: %v", err)
	}
}

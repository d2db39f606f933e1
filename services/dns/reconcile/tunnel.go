package reconcile

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"skep/services/dns/tunnel"
)

// Rules are those of a tunnel, at whoever manages it.
type Rules interface {
	// Rules reads all of them. Write replaces them.
	Rules(ctx context.Context) (rules []tunnel.Rule, write func(context.Context, []tunnel.Rule) error, err error)
}

// Tunnel keeps the rules of one tunnel true to a stream of wanted ones.
type Tunnel struct {
	Rules  Rules
	ID     string
	Origin string // rules that lead there are the cluster's
	// Grace is how long a rule stays after nothing wants it any more, as far as
	// this process has seen: the tunnel has no place to note it.
	Grace   time.Duration
	Share   float64
	Resync  time.Duration
	DryRun  bool
	Log     *slog.Logger
	Metrics *Metrics // may be nil

	mu     sync.Mutex
	box    chan wantRules
	status TunnelStatus

	gone map[string]time.Time // by host: since when nothing wants it
}

type wantRules struct {
	rules []tunnel.Rule
	stale func() bool
}

// TunnelStatus is how the last run went.
type TunnelStatus struct {
	At      time.Time   `json:"at"`
	Plan    tunnel.Plan `json:"plan"`
	Waiting []string    `json:"waiting"` // hosts whose rules are to go
	Error   string      `json:"error,omitempty"`
}

// Name is what logs and metrics call the tunnel.
func (t *Tunnel) Name() string { return "tunnel/" + t.ID }

// Want hands over the rules that there should be. The newest wins. While they
// are stale none goes.
func (t *Tunnel) Want(rules []tunnel.Rule, stale func() bool) {
	put(t.wanted(), wantRules{rules, stale})
}

func (t *Tunnel) wanted() chan wantRules {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.box == nil {
		t.box = make(chan wantRules, 1)
	}
	return t.box
}

// Status of the last run.
func (t *Tunnel) Status() TunnelStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

// Run syncs until the context ends. Want may be called before and during it, by
// one goroutine.
func (t *Tunnel) Run(ctx context.Context) error {
	loop(ctx, t.wanted(), t.once)
	return nil
}

func (t *Tunnel) once(ctx context.Context, w wantRules) (time.Duration, error) {
	now, stale := time.Now(), w.stale()
	var plan tunnel.Plan
	var waiting []string
	var due time.Time
	live, write, err := t.Rules.Rules(ctx)
	if err == nil {
		plan, waiting, due = t.plan(w.rules, live, stale, now)
		if plan.Pending() && !t.DryRun {
			err = write(ctx, plan.Rules)
		}
	}
	t.tell(ctx, TunnelStatus{At: now, Plan: plan, Waiting: waiting}, err)
	if err != nil || stale {
		return t.Resync, err
	}
	return until(due, now, t.Resync), nil
}

// plan leaves in place what nothing wants until its grace is over, and for as
// long as too much would go at once or what is wanted may be out of date. Due is
// when the next rule goes.
func (t *Tunnel) plan(want, live []tunnel.Rule, stale bool, now time.Time) (plan tunnel.Plan, waiting []string, due time.Time) {
	compare := func(kept []tunnel.Rule) tunnel.Plan {
		return tunnel.Compare(tunnel.Config{Tunnel: t.ID, Rules: slices.Concat(want, kept)}, live, t.Origin, t.Share)
	}
	gone := map[string]time.Time{}
	var early, all []tunnel.Rule
	for _, c := range compare(nil).Changes {
		if c.Action != tunnel.Remove {
			continue
		}
		since, known := t.gone[c.Hostname]
		if !known {
			since = now
		}
		if known || !stale {
			gone[c.Hostname] = since
		}
		all = append(all, c.Rule)
		if end := since.Add(t.Grace); stale || now.Before(end) {
			early, waiting = append(early, c.Rule), append(waiting, c.Hostname)
			if due.IsZero() || end.Before(due) {
				due = end
			}
		}
	}
	t.gone = gone
	if plan = compare(early); plan.Held {
		plan = compare(all)
		plan.Held = true
	}
	return plan, waiting, due
}

// tell notes how a run went.
func (t *Tunnel) tell(ctx context.Context, s TunnelStatus, err error) {
	log := t.Log.With("tunnel", t.ID)
	level, said := slog.LevelInfo, "rule"
	switch {
	case err != nil:
		level, s.Error = slog.LevelError, err.Error()
		log.Error("sync", "error", err)
	case t.DryRun:
		said = "would change"
	}
	for _, c := range s.Plan.Changes {
		if !t.DryRun {
			t.Metrics.change(t.Name(), string(c.Action), err)
		}
		log.Log(ctx, level, said, "action", c.Action, "host", cmp.Or(c.Hostname, "every other"), "service", c.Rule.Service())
	}
	for _, c := range s.Plan.Conflicts {
		log.Warn("refused", "host", c.Hostname, "reason", c.Reason)
	}
	held := 0
	if s.Plan.Held {
		held = 1
		log.Warn("too many rules would go at once, all of them stay: `skep tunnel sync --force` lets them go")
	}
	t.Metrics.sync(t.Name(), s.At, len(s.Plan.Conflicts), held, err)
	if s.Waiting == nil {
		s.Waiting = []string{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.status = s
}

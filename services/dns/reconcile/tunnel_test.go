package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/services/dns/tunnel"
)

const origin = "https://ingress_caddy"

func ruleOf(host string) tunnel.Rule { return tunnel.NewRule(tunnel.Route{Host: host}, origin) }

func rulesOf(hosts string) []tunnel.Rule {
	var out []tunnel.Rule
	for _, h := range strings.Fields(hosts) {
		out = append(out, ruleOf(h))
	}
	return out
}

// tunnelMemory has the rules of a tunnel.
type tunnelMemory struct {
	mu     sync.Mutex
	rules  []tunnel.Rule
	away   bool
	writes int
}

func (m *tunnelMemory) Rules(context.Context) ([]tunnel.Rule, func(context.Context, []tunnel.Rule) error, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return nil, nil, errors.New("away")
	}
	return m.rules, func(_ context.Context, rules []tunnel.Rule) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.rules = rules
		m.writes++
		return nil
	}, nil
}

func (m *tunnelMemory) hosts() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, r := range m.rules {
		if r.Hostname() != "" {
			out = append(out, r.Hostname())
		}
	}
	return strings.Join(out, " ")
}

func newTunnel(m *tunnelMemory) *Tunnel {
	return &Tunnel{
		Rules: m, ID: "id", Origin: origin, Grace: time.Minute, Share: 0.3, Resync: time.Hour, Log: slog.New(slog.DiscardHandler),
		Metrics: NewMetrics(prometheus.NewRegistry()),
	}
}

func TestTunnelPlan(t *testing.T) {
	by := tunnel.Rule{"hostname": "ssh.example.com", "service": "ssh://host:22"}
	live := append(rulesOf("a b c"), by, tunnel.Rule{"service": tunnel.NotFound})
	many := append(rulesOf("a b c d e f g h i j"), tunnel.Rule{"service": tunnel.NotFound})
	r := newTunnel(nil)
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, step := range []struct {
		after   time.Duration
		want    string
		live    []tunnel.Rule
		stale   bool
		changes string
		waiting string
		due     time.Duration // since the start
		held    bool
	}{
		{0, "a b c", live, false, "", "", 0, false},
		{10 * time.Second, "a new", live, false, "create new", "b c", 70 * time.Second, false},
		{20 * time.Second, "a b", live, false, "", "c", 70 * time.Second, false}, // b is back,
		{30 * time.Second, "a", live, false, "", "b c", 70 * time.Second, false}, // and gone again: its time begins anew
		{70 * time.Second, "a new", live, true, "create new", "b c", 70 * time.Second, false},
		{71 * time.Second, "a", live, false, "remove c", "b", 90 * time.Second, false},
		{90 * time.Second, "a", live, false, "remove b, remove c", "", 0, false},
		{100 * time.Second, "a", many, false, "remove b, remove c", "d e f g h i j", 160 * time.Second, false},
		{160 * time.Second, "a x", many, false, "create x", "", 0, true},
	} {
		plan, waiting, due := r.plan(rulesOf(step.want), step.live, step.stale, at.Add(step.after))
		var changes []string
		for _, c := range plan.Changes {
			changes = append(changes, fmt.Sprintf("%s %s", c.Action, c.Hostname))
		}
		wantDue := time.Time{}
		if step.due > 0 {
			wantDue = at.Add(step.due)
		}
		if got := strings.Join(changes, ", "); got != step.changes || strings.Join(waiting, " ") != step.waiting || !due.Equal(wantDue) || plan.Held != step.held {
			t.Errorf("after %v: %q, waiting %q until %v, held %t", step.after, got, waiting, due, plan.Held)
		}
	}
}

func TestTunnel(t *testing.T) { synctest.Test(t, testTunnel) }

func testTunnel(t *testing.T) {
	m := &tunnelMemory{away: true, rules: []tunnel.Rule{ruleOf("old"), {"service": tunnel.NotFound}}}
	r := newTunnel(m)
	r.Grace = time.Second
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	r.Want(rulesOf("app"), fresh)
	eventually(t, "the failure is in the status", func() bool { return r.Status().Error == "away" })
	m.mu.Lock()
	m.away = false
	m.mu.Unlock()
	eventually(t, "it is not tried again", func() bool { return m.hosts() == "app old" })
	// Nothing more is said: it looks again by itself when the grace is over.
	eventually(t, "a rule outlives its grace", func() bool { return m.hosts() == "app" })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestTunnelDryRun(t *testing.T) {
	m := &tunnelMemory{}
	r := newTunnel(m)
	r.DryRun = true
	if next, err := r.once(t.Context(), wantRules{rulesOf("app"), fresh}); err != nil || next != time.Hour || m.writes != 0 || len(r.Status().Plan.Changes) != 1 {
		t.Errorf("%v, %v, %d writes, %v", next, err, m.writes, r.Status())
	}
}

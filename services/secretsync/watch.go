package secretsync

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"skep/generator/bundle"
	"skep/generator/stack"
)

// Deployer brings stacks to what the project says now, the lock included.
type Deployer interface {
	Deploy(ctx context.Context, stacks []stack.Name) error
}

// Watcher syncs again and again, and deploys the stacks whose services use
// another version than is wanted. What it has to do it sees in the Swarm, so
// it can be ended and started at any time.
type Watcher struct {
	Syncer   *Syncer
	Deployer Deployer
	// Open reads the project; it is asked at every turn, for files change.
	Open     func(ctx context.Context) (Project, error)
	Interval time.Duration
	Prune    bool
	Log      *slog.Logger

	said    map[string]bool // failures that the log has already
	refused map[stack.Name]*refusal
}

// refusal is a deploy that failed. The same change is not tried at every turn:
// each try restarts tasks.
type refusal struct {
	wanted string
	pause  time.Duration
	next   time.Time
}

const (
	firstPause = time.Minute
	longest    = time.Hour
)

// Run watches until ctx ends. Nothing else ends it: a source or a Swarm that
// is away is asked again at the next turn.
func (w *Watcher) Run(ctx context.Context) error {
	w.refused = map[stack.Name]*refusal{}
	ticker := time.NewTicker(w.Interval)
	defer ticker.Stop()
	for {
		w.turn(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (w *Watcher) turn(ctx context.Context) {
	now := map[string]bool{}
	defer func() { w.said = now }()
	report := func(what, why string) {
		now[what+why] = true
		if !w.said[what+why] {
			w.Log.Warn(what, "why", why)
		}
	}
	project, err := w.Open(ctx)
	if err != nil {
		report("the project cannot be read", err.Error())
		return
	}
	plan, err := w.Syncer.Plan(ctx, project)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		report("no sync", err.Error())
		return
	}
	done, err := w.Syncer.Apply(ctx, project, plan, w.Prune)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		report("the sync is not complete", err.Error())
	}
	for _, a := range done.Actions {
		switch {
		case a.Kind == Failed:
			report("secret "+a.Name, a.Why)
		case a.Kind == Keep && a.Why != "":
			report("secret "+a.Name, a.Why)
		case a.Kind == Create, a.Kind == Replace, a.Kind == Prune:
			w.Log.Info("secret", "name", a.Name, "did", a.Kind, "why", a.Why)
		}
	}
	wanted, err := project.Secrets(done.Lock)
	if err != nil {
		report("the project cannot be generated", err.Error())
		return
	}
	live, err := w.Syncer.live(ctx)
	if err != nil {
		report("no deploy", err.Error())
		return
	}
	w.deploy(ctx, wanted, live)
}

// deploy deploys stack by stack, so that one that fails keeps no other back.
func (w *Watcher) deploy(ctx context.Context, wanted []bundle.Secret, live Live) {
	outdated := Outdated(wanted, live, w.Syncer.Options)
	maps.DeleteFunc(w.refused, func(s stack.Name, _ *refusal) bool { return !slices.Contains(outdated, s) })
	for _, s := range outdated {
		want := names(wanted, s)
		before := w.refused[s]
		if before != nil && before.wanted == want && time.Now().Before(before.next) {
			continue
		}
		err := w.Deployer.Deploy(ctx, []stack.Name{s})
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			delete(w.refused, s)
			w.Log.Info("deployed", "stack", s)
		default:
			pause := firstPause
			if before != nil && before.wanted == want {
				pause = min(2*before.pause, longest)
			}
			w.refused[s] = &refusal{wanted: want, pause: pause, next: time.Now().Add(pause)}
			w.Log.Error("deploy", "stack", s, "error", err, "again_in", pause.String())
		}
	}
}

func names(wanted []bundle.Secret, s stack.Name) string {
	var out []string
	for _, w := range wanted {
		if w.Stack == s {
			out = append(out, w.Name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

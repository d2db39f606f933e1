package secretsync

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"skep/generator/bundle"
	"skep/generator/stack"
)

// Deployer brings stacks to what the project says now, the lock included. With
// ErrBusy it has not tried.
type Deployer interface {
	Deploy(ctx context.Context, stacks []stack.Name) error
}

// ErrBusy: somebody else deploys at the moment.
var ErrBusy = errors.New("another deploy is under way")

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

// turnTime is how long a turn may wait for the source and the Swarm. Deploys
// have time limits of their own.
const turnTime = 3 * time.Minute

var errSlowTurn = errors.New("the store or the Swarm took longer than " + turnTime.String())

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
	if wanted, live, ok := w.sync(ctx, report); ok {
		w.deploy(ctx, wanted, live, report)
	}
}

// sync brings the secrets up to date, and returns what a deploy goes by. It
// reports what failed, unless that is ctx.
func (w *Watcher) sync(ctx context.Context, report func(what, why string)) (wanted []bundle.Secret, live Live, ok bool) {
	limited, cancel := context.WithTimeoutCause(ctx, turnTime, errSlowTurn)
	defer cancel()
	// failed says why the turn ends here.
	failed := func(what string, err error) ([]bundle.Secret, Live, bool) {
		switch {
		case ctx.Err() != nil:
		case limited.Err() != nil:
			report(what, context.Cause(limited).Error())
		default:
			report(what, err.Error())
		}
		return nil, Live{}, false
	}
	project, err := w.Open(limited)
	if err != nil {
		return failed("the project cannot be read", err)
	}
	plan, err := w.Syncer.Plan(limited, project)
	if err != nil {
		return failed("no sync", err)
	}
	done, err := w.Syncer.Apply(limited, project, plan, w.Prune)
	if ctx.Err() == nil {
		w.log(done, report)
	}
	if limited.Err() != nil {
		return failed("the sync is not complete", limited.Err())
	}
	if err != nil {
		report("the sync is not complete", err.Error())
	}
	if wanted, err = project.Secrets(done.Lock); err != nil {
		return failed("the project cannot be generated", err)
	}
	if live, err = w.Syncer.live(limited); err != nil {
		return failed("no deploy", err)
	}
	return wanted, live, true
}

// log says what a sync did.
func (w *Watcher) log(done Plan, report func(what, why string)) {
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
	for _, r := range done.Dropped {
		w.Log.Info("lock", "dropped", r.String(), "why", "nothing that was read names it")
	}
}

// deploy deploys stack by stack, so that one that fails keeps no other back.
func (w *Watcher) deploy(ctx context.Context, wanted []bundle.Secret, live Live, report func(what, why string)) {
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
		case errors.Is(err, ErrBusy): // the next turn tries
			report("deploy of stack "+string(s)+" waits", err.Error())
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

package deploy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/swarm"
)

// leaseName is the config whose existence is the lease. Its labels say who
// holds it; every renewal moves its version on.
const leaseName = "skep.lease"

const (
	labelHolder  = "skep.lease.holder"
	labelToken   = "skep.lease.token" // who holds it, told apart from all others
	labelRenewal = "skep.lease.renewal"
	labelSince   = "skep.lease.since"
)

// lease is the right to deploy, one at a time per cluster. It is kept up by
// renewals: a contender that sees none for a whole term takes it over. Both
// sides measure time with their own clock from what they saw themselves, so
// clocks need not agree.
type lease struct {
	engine Engine
	term   time.Duration
	holder string
	token  string
	now    func() time.Time

	mu     sync.Mutex
	config swarm.Config
	wrote  bool // it may be ours: what was asked for may have been carried out

	stop context.CancelFunc
	done chan struct{}
}

// withLease calls f while nobody else deploys. The context of f ends with
// ErrLeaseLost when somebody takes the lease over.
func withLease(ctx context.Context, engine Engine, o Options, f func(held context.Context) error) error {
	held, l, err := acquire(ctx, engine, o.Term, o.Who, o.Now, func(holder string) {
		o.Report(Event{Verb: Pausing, Text: "waiting for the deploy of " + holder})
	})
	if err != nil {
		return err
	}
	defer func() {
		// Who is interrupted gives the lease back too.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.Term)
		defer cancel()
		_ = l.release(end) // it expires anyway
	}()
	return f(held)
}

// acquire takes the lease, or fails with ErrLocked when its holder is alive.
// The context that it returns ends with ErrLeaseLost when somebody takes over.
func acquire(ctx context.Context, engine Engine, term time.Duration, who string, now func() time.Time, waiting func(holder string)) (context.Context, *lease, error) {
	l := &lease{engine: engine, term: term, holder: who, token: rand.Text(), now: now, done: make(chan struct{})}
	if err := l.get(ctx, waiting); err != nil {
		l.abandon(ctx)
		return nil, nil, err
	}
	return l.keep(ctx)
}

// get returns when the lease is ours.
func (l *lease) get(ctx context.Context, waiting func(holder string)) error {
	var seen uint64         // the version that was there first, 0 before
	var quiet time.Duration // for how long nothing moved while we could look
	looked := time.Now()
	for {
		held, err := l.take(ctx)
		if err == nil {
			return nil
		}
		if !errors.Is(err, errHeld) {
			return fmt.Errorf("take the lease: %w", err)
		}
		switch {
		case seen == 0:
			seen, quiet = held.Version.Index, 0
			waiting(held.Spec.Labels[labelHolder])
		case held.Version.Index != seen:
			// It was renewed while we looked.
			return WithHint(
				fmt.Errorf("%w by %s since %s", ErrLocked, held.Spec.Labels[labelHolder], held.Spec.Labels[labelSince]),
				"wait until it is done and try again")
		case quiet >= l.term:
			if err := l.takeOver(ctx, held); err == nil {
				return nil
			} else if !errors.Is(err, ErrChanged) && !errdefs.IsNotFound(err) {
				return fmt.Errorf("take the lease over: %w", err)
			}
			seen = 0
		}
		// While the Swarm has no leader the holder cannot renew either: time in
		// which nothing could be seen does not count.
		quiet += min(time.Since(looked), l.term/5)
		looked = time.Now()
		timer := time.NewTimer(l.term / 10)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

var errHeld = errors.New("the lease is held")

func (l *lease) labels() map[string]string {
	return map[string]string{
		LabelKind: kindLease, labelHolder: l.holder, labelToken: l.token, labelSince: l.now().UTC().Format(time.RFC3339), labelRenewal: rand.Text(),
	}
}

// take creates the lease, or returns the one that is there with errHeld.
func (l *lease) take(ctx context.Context) (swarm.Config, error) {
	spec := swarm.ConfigSpec{Annotations: swarm.Annotations{Name: leaseName, Labels: l.labels()}, Data: []byte("lease")}
	_, err := l.engine.CreateConfig(ctx, spec)
	taken := errdefs.IsAlreadyExists(err)
	l.wrote = l.wrote || !taken
	if err != nil && !taken {
		return swarm.Config{}, err
	}
	list, err := l.engine.Configs(ctx)
	if err != nil {
		return swarm.Config{}, err
	}
	held, ok := Live{Configs: list}.config(leaseName)
	switch {
	case !ok && taken: // released just now
		return l.take(ctx)
	case !ok:
		return swarm.Config{}, ErrLeaseLost
	case taken:
		return held, errHeld
	}
	l.config = held
	return held, nil
}

// takeOver makes a dead holder's lease ours, if it still is at the version we
// watched.
func (l *lease) takeOver(ctx context.Context, held swarm.Config) error {
	l.config, l.wrote = held, true
	return l.renew(ctx, l.labels())
}

// renew moves the lease's version on; only the holder knows the last one.
func (l *lease) renew(ctx context.Context, labels map[string]string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	spec := l.config.Spec
	spec.Labels = labels
	if err := l.engine.UpdateConfig(ctx, l.config.ID, l.config.Version, spec); err != nil {
		return err
	}
	list, err := l.engine.Configs(ctx)
	if err != nil {
		return err
	}
	now, ok := Live{Configs: list}.config(leaseName)
	if !ok || !maps.Equal(now.Spec.Labels, labels) {
		return ErrChanged
	}
	l.config = now
	return nil
}

// keep renews the lease until it is released.
func (l *lease) keep(ctx context.Context) (context.Context, *lease, error) {
	held, cancel := context.WithCancelCause(ctx)
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	go func() {
		defer close(l.done)
		tick := time.NewTicker(l.term / 3)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-renewing.Done():
				return
			}
			labels := maps.Clone(l.config.Spec.Labels)
			labels[labelRenewal] = rand.Text()
			if err := l.renew(renewing, labels); err != nil && renewing.Err() == nil {
				cancel(fmt.Errorf("%w: %w", ErrLeaseLost, err))
				return
			}
		}
	}()
	return held, l, nil
}

// abandon gives back what was taken by a call that failed for us alone, as when
// its reply was lost, so that nobody waits a term for it.
func (l *lease) abandon(ctx context.Context) {
	if !l.wrote {
		return
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.term)
	defer cancel()
	_ = l.giveBack(end) // it expires anyway
}

// release gives the lease back.
func (l *lease) release(ctx context.Context) error {
	l.stop()
	<-l.done
	return l.giveBack(ctx)
}

// giveBack removes the lease if it is ours. Its version does not tell: a renewal
// that was cut short may have been carried out.
func (l *lease) giveBack(ctx context.Context) error {
	list, err := l.engine.Configs(ctx)
	if err != nil {
		return err
	}
	now, ok := Live{Configs: list}.config(leaseName)
	if !ok || now.Spec.Labels[labelToken] != l.token {
		return nil // somebody else's by now
	}
	return l.engine.RemoveConfig(ctx, now.ID)
}

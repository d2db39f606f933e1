package secretsync

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/swarm"

	"skep/generator/bundle"
	"skep/secrets"
)

// Swarm is what a sync needs of the Docker API. Errors have the kinds of
// containerd's errdefs.
type Swarm interface {
	Secrets(ctx context.Context) ([]swarm.Secret, error)
	Services(ctx context.Context) ([]swarm.Service, error)
	CreateSecret(ctx context.Context, spec swarm.SecretSpec) (id string, err error)
	RemoveSecret(ctx context.Context, id string) error
	// Revisions are the kept revisions of stacks by the secrets that they
	// mount: "media, revision 3".
	Revisions(ctx context.Context) (map[string][]string, error)
}

// Project is where the references come from.
type Project interface {
	// Secrets are what the bundle expects when it is generated with a lock.
	Secrets(lock secrets.Lock) ([]bundle.Secret, error)
	// Lock is the lock file as it is.
	Lock() secrets.Lock
	// SaveLock replaces the lock file.
	SaveLock(lock secrets.Lock) error
}

// Syncer plans and applies.
type Syncer struct {
	Source  secrets.Source // nil will do for a project without references
	Swarm   Swarm
	Options Options

	answered atomic.Bool // the Swarm did once
}

const (
	// maxSecret is Swarm's limit.
	// https://github.com/moby/swarmkit/blob/master/api/validation/secrets.go
	maxSecret = 500 << 10
	// parallel is how many secrets are created at once.
	parallel = 8
	// leaderless is how long a Swarm without a leader is waited for.
	leaderless = time.Minute
)

// Plan asks the source for versions and the Swarm for what it has. It reads no
// value and changes nothing. A reference that cannot be resolved is an action
// that failed, not an error. Without references the source is not asked.
func (s *Syncer) Plan(ctx context.Context, p Project) (Plan, error) {
	wanted, err := p.Secrets(p.Lock())
	if err != nil {
		return Plan{}, err
	}
	answers := secrets.Answers{}
	if refs := References(wanted); len(refs) > 0 {
		answers = s.Source.Versions(ctx, refs)
	}
	if ctx.Err() != nil {
		return Plan{}, context.Cause(ctx)
	}
	lock := Relock(p.Lock(), answers)
	if wanted, err = p.Secrets(lock); err != nil {
		return Plan{}, err
	}
	live, err := s.live(ctx)
	if err != nil {
		return Plan{}, err
	}
	plan := Compare(wanted, lock, answers, live, s.Options)
	plan.Dropped = dropped(p.Lock(), lock)
	return plan, nil
}

func (s *Syncer) live(ctx context.Context) (Live, error) {
	list, err := patient(ctx, s, func() ([]swarm.Secret, error) { return s.Swarm.Secrets(ctx) })
	if err != nil {
		return Live{}, fmt.Errorf("list the Swarm's secrets: %w", err)
	}
	services, err := patient(ctx, s, func() ([]swarm.Service, error) { return s.Swarm.Services(ctx) })
	if err != nil {
		return Live{}, fmt.Errorf("list the Swarm's services: %w", err)
	}
	revisions, err := patient(ctx, s, func() (map[string][]string, error) { return s.Swarm.Revisions(ctx) })
	if err != nil {
		return Live{}, fmt.Errorf("list the revisions: %w", err)
	}
	return NewLive(list, services, revisions), nil
}

// Apply does what a plan says, and returns it with what failed marked. It
// creates, then locks, then prunes if it is asked to: killed at any point, the
// next sync goes on from there.
func (s *Syncer) Apply(ctx context.Context, p Project, plan Plan, prune bool) (Plan, error) {
	done := Plan{Actions: slices.Clone(plan.Actions), Lock: maps.Clone(plan.Lock), Dropped: plan.Dropped}
	s.create(ctx, done.Actions)
	before := p.Lock()
	for _, a := range done.Of(Failed) {
		for _, r := range a.References {
			if old, ok := before[r]; ok {
				done.Lock[r] = old
			} else {
				delete(done.Lock, r)
			}
		}
	}
	if !maps.Equal(before, done.Lock) {
		if err := p.SaveLock(done.Lock); err != nil {
			return done, fmt.Errorf("write the lock: %w", err)
		}
	}
	if !prune {
		return done, nil
	}
	// What failed keeps its old version, which the plan did not know.
	wanted, err := p.Secrets(done.Lock)
	if err != nil {
		return done, err
	}
	for i := range done.Actions {
		a := &done.Actions[i]
		if a.Kind == Prune {
			s.prune(ctx, a, wanted)
		}
	}
	return done, nil
}

func (s *Syncer) prune(ctx context.Context, a *Action, wanted []bundle.Secret) {
	if slices.ContainsFunc(wanted, func(w bundle.Secret) bool { return w.Name == a.Name }) {
		a.Kind, a.Why = Used, "its next version could not be made"
		return
	}
	_, err := patient(ctx, s, func() (struct{}, error) { return struct{}{}, s.Swarm.RemoveSecret(ctx, a.id) })
	switch {
	case err == nil, errdefs.IsNotFound(err):
	case errdefs.IsFailedPrecondition(err):
		a.Kind, a.Why = Used, "a service began to use it"
	default:
		*a = a.fail("remove: %v", err)
	}
}

// create makes the secrets of all actions that ask for it, with one question
// to the source.
func (s *Syncer) create(ctx context.Context, actions []Action) {
	var refs []secrets.Reference
	for _, a := range actions {
		if a.Kind == Create || a.Kind == Replace {
			refs = append(refs, a.References...)
		}
	}
	if len(refs) == 0 {
		return
	}
	var answers secrets.Answers
	if s.Options.Mode != Driver {
		slices.SortFunc(refs, secrets.Reference.Compare)
		answers = s.Source.Read(ctx, slices.Compact(refs))
		defer answers.Wipe()
	}
	slots := make(chan struct{}, parallel)
	var workers sync.WaitGroup
	for i := range actions {
		a := &actions[i]
		if a.Kind != Create && a.Kind != Replace {
			continue
		}
		slots <- struct{}{}
		workers.Go(func() {
			defer func() { <-slots }()
			if err := s.createOne(ctx, a, answers); err != nil {
				*a = a.fail("%v", err)
			}
		})
	}
	workers.Wait()
}

func (s *Syncer) createOne(ctx context.Context, a *Action, answers secrets.Answers) error {
	spec := swarm.SecretSpec{Annotations: swarm.Annotations{Name: a.Name, Labels: a.labels}}
	if s.Options.Mode == Driver {
		spec.Driver = &swarm.Driver{Name: s.Options.Driver}
	} else {
		value, err := a.value(answers)
		if err != nil {
			return err
		}
		defer value.Wipe()
		if spec.Data, err = value.Bytes(); err != nil {
			return err
		}
	}
	if a.Kind == Replace {
		if _, err := patient(ctx, s, func() (struct{}, error) { return struct{}{}, s.Swarm.RemoveSecret(ctx, a.id) }); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("remove the secret of that name: %w", err)
		}
	}
	_, err := patient(ctx, s, func() (string, error) { return s.Swarm.CreateSecret(ctx, spec) })
	if errdefs.IsAlreadyExists(err) || errdefs.IsConflict(err) {
		// A reply may have been lost, or somebody else syncs.
		return s.confirm(ctx, a)
	}
	if err != nil && s.Options.Mode == Driver && strings.Contains(err.Error(), "plugin") && strings.Contains(err.Error(), "not found") {
		return fmt.Errorf("this manager has no plugin %q, install skep-secretdriver on every manager: %w", s.Options.Driver, err)
	}
	if err != nil {
		return fmt.Errorf("create: %w", unquote(err, spec.Data))
	}
	return nil
}

// errQuotes stands for an answer that quotes the request, as that of a proxy
// before the engine may.
var errQuotes = errors.New("the engine refused it, with words that hold the value and are not shown")

// unquote drops an error that holds the value, plain or as it was sent.
func unquote(err error, value []byte) error {
	if err == nil || len(value) == 0 {
		return err
	}
	sent := base64.StdEncoding.AppendEncode(nil, value)
	defer clear(sent)
	if text := []byte(err.Error()); bytes.Contains(text, bytes.TrimSpace(value)) || bytes.Contains(text, sent) {
		return errQuotes
	}
	return err
}

// ErrMoved: an item changed between the plan and its reading.
var ErrMoved = errors.New("the item changed meanwhile, run the sync again")

// value builds what a secret holds. The caller wipes it.
func (a *Action) value(answers secrets.Answers) (secrets.Value, error) {
	items := strings.Split(a.labels[secrets.LabelItem], "\n")
	for i, r := range a.References {
		switch answer := answers[r]; {
		case answer.Err != nil: // which is said below
		case answer.Item.Version != a.Versions[i]:
			return secrets.Value{}, fmt.Errorf("%w: %s is at version %s, not %s", ErrMoved, r, answer.Item.Version, a.Versions[i])
		case answer.Item.ID != items[i]:
			return secrets.Value{}, fmt.Errorf("%w: %s is of another item of that name", ErrMoved, r)
		}
	}
	value, err := a.template.Fill(func(r secrets.Reference) (secrets.Value, error) { return answers[r].Value, answers[r].Err })
	switch {
	case err != nil:
		return secrets.Value{}, err
	case value.Len() == 0:
		return secrets.Value{}, errors.New("the value is empty, and Swarm takes no empty secret")
	case value.Len() >= maxSecret:
		defer value.Wipe()
		return secrets.Value{}, fmt.Errorf("the value has %d bytes, and Swarm takes less than %d", value.Len(), maxSecret)
	}
	return value, nil
}

func (s *Syncer) confirm(ctx context.Context, a *Action) error {
	live, err := s.live(ctx)
	if err != nil {
		return err
	}
	there := live.byName[a.Name]
	if there == nil {
		return errors.New("the secret was there, and is gone: run the sync again")
	}
	if why := difference(there.Spec, a.labels, s.Options); why != "" {
		return fmt.Errorf("somebody else made a secret of that name: %s", why)
	}
	return nil
}

// patient waits out a Swarm without a leader and a manager that restarts. Where
// nobody ever answered the address is wrong.
func patient[T any](ctx context.Context, s *Syncer, f func() (T, error)) (T, error) {
	var last error
	out, err := backoff.Retry(ctx, func() (T, error) {
		out, err := f()
		last = err
		away := errdefs.IsUnavailable(err)
		if !away {
			s.answered.Store(true)
		}
		var connection interface{ ConnectionFailed() bool } // services/swarm has it
		if err != nil && (!away || !s.answered.Load() && errors.As(err, &connection)) {
			err = backoff.Permanent(err)
		}
		return out, err
	}, backoff.WithMaxElapsedTime(leaderless))
	if err != nil {
		return out, last
	}
	return out, nil
}

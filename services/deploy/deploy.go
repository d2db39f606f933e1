package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/api/types/network"

	"skep/generator/stack"
)

// Options say how to deploy. The zero value of a duration or number means its
// default.
type Options struct {
	Who    string        // for the revision and the lease
	Commit func() string // of the project; asked once, when there is something to deploy; nil for unknown
	Note   string

	Timeout  time.Duration // for each service and job, default 10 minutes
	Patience time.Duration // with a Swarm that does not answer, default 1 minute
	Term     time.Duration // of the lease, default 15 seconds
	Keep     int           // revisions of a stack that came up, default 10

	NoWait      bool // do not wait for services; gates are waited for
	KeepFailed  bool // leave a stack that failed as it is
	Undo        bool // when interrupted, take back the stacks that are not done: Deploy returns after that
	ResolveTags bool // ask registries for the digests of changed images
	Scope       Scope
	// Names are changed once the stacks are up.
	Names []Names

	// Expect is a plan that was agreed on; any other is refused.
	Expect *Plan

	Report func(Event)      // may be called by several goroutines at once; nil for nobody
	Now    func() time.Time // for revisions
}

// Event is something that a person who watches a deploy wants to know.
type Event struct {
	Stack   stack.Name `json:"stack,omitempty"`
	Subject string     `json:"subject,omitempty"` // "service media_web"
	Verb    Verb       `json:"event"`
	Text    string     `json:"text,omitempty"`
	Running int        `json:"running,omitempty"`
	Want    int        `json:"want,omitempty"`
}

// Verb is what happened.
type Verb string

const (
	Created   Verb = "created"
	Updated   Verb = "updated"
	Removed   Verb = "removed"
	Waiting   Verb = "waiting"   // for tasks; may come often
	Converged Verb = "converged" // a service runs, a job completed
	Failed    Verb = "failed"
	Began     Verb = "began"    // with a stack
	Finished  Verb = "finished" // with a stack
	Restoring Verb = "restoring"
	Restored  Verb = "restored"
	Pausing   Verb = "pausing" // the Swarm does not answer, or somebody else deploys
	Skipped   Verb = "skipped" // a stack whose needs failed
	Warned    Verb = "warned"  // of something that did not fail the deploy
)

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&o.Timeout, 10*time.Minute)
	set(&o.Patience, time.Minute)
	set(&o.Term, 15*time.Second)
	if o.Keep == 0 {
		o.Keep = 10
	}
	if o.Commit == nil {
		o.Commit = func() string { return "" }
	}
	o.Commit = sync.OnceValue(o.Commit)
	if o.Report == nil {
		o.Report = func(Event) {}
	}
	return o
}

// Result is what a deploy did.
type Result struct {
	Plan Plan `json:"plan"`
	// Failed are the stacks that failed, in deploy order.
	Failed []StackFailure `json:"failed,omitempty"`
	// Skipped are the stacks that were not begun, for one that they need failed.
	Skipped []stack.Name `json:"skipped,omitempty"`
}

// StackFailure is a stack that failed and what became of it.
type StackFailure struct {
	Stack stack.Name `json:"stack"`
	Err   error      `json:"-"`
	// Restored says that the stack is back at what it was.
	Restored   bool  `json:"restored"`
	RestoreErr error `json:"-"`
}

func (f StackFailure) Error() string { return fmt.Sprintf("stack %s: %v", f.Stack, f.Err) }

func (f StackFailure) Unwrap() error { return f.Err }

// Deploy makes the Swarm run the project. Without a change it writes nothing,
// not even the lease. The error is that of the first stack that failed.
func Deploy(ctx context.Context, engine Engine, p Project, o Options) (Result, error) {
	o = o.withDefaults()
	patient := newPatient(engine, o)
	_, plan, err := look(ctx, patient, p, o)
	if err != nil || plan.Empty() {
		return Result{Plan: plan}, err
	}
	result := Result{Plan: plan}
	holding := ctx
	if o.Undo { // an interrupt ends what is done under the lease, not the lease
		holding = context.WithoutCancel(ctx)
	}
	err = withLease(holding, patient, o, func(kept context.Context) error {
		held, interrupt := context.WithCancelCause(kept)
		defer interrupt(nil)
		defer context.AfterFunc(ctx, func() { interrupt(context.Cause(ctx)) })()
		// Somebody may have deployed until we had the lease.
		live, plan, err := look(held, patient, p, o)
		result.Plan = plan
		if err != nil || plan.Empty() {
			return err
		}
		d := &deployment{ctx: held, kept: kept, engine: patient, options: o, project: p, plan: plan, live: live}
		result, err = d.run()
		return err
	})
	return result, err
}

// look reads the Swarm and plans. A plan that cannot be applied is an error.
func look(ctx context.Context, engine Engine, p Project, o Options) (Live, Plan, error) {
	live, plan, err := Look(ctx, engine, p, o.Scope, o.Names)
	if err != nil {
		return Live{}, Plan{}, err
	}
	if err := plan.Ready(); err != nil {
		return live, plan, err
	}
	if o.Expect != nil {
		plan = plan.agreed(*o.Expect)
	}
	if o.Expect != nil && !o.Expect.Same(plan) {
		return live, plan, WithHint(ErrStalePlan, "the Swarm changed since it was made; run `skep plan` again")
	}
	return live, plan, nil
}

// deployment is one deploy under way.
type deployment struct {
	ctx     context.Context // ends when the lease is lost, and when the deploy is interrupted
	kept    context.Context // with Options.Undo it ends when the lease is lost alone
	engine  Engine
	options Options
	project Project
	plan    Plan
	live    Live

	watch *watch
}

func (d *deployment) run() (Result, error) {
	result := Result{Plan: d.plan}
	for _, c := range d.plan.Networks {
		if old, ok := d.live.network(c.Name); ok && c.Action == Replace {
			if err := d.remake("", old, d.project.Networks); err != nil {
				return result, err
			}
			continue
		}
		i := slices.IndexFunc(d.project.Networks, func(n network.CreateRequest) bool { return n.Name == c.Name })
		if err := d.createNetwork("", d.project.Networks[i]); err != nil {
			return result, err
		}
	}
	d.watch = startWatch(d.ctx, d.engine, d.live.nodeNames())
	defer d.watch.close()

	outcomes := d.stacks()
	var first error
	for _, s := range d.plan.Stacks {
		switch o := outcomes[s.Stack]; {
		case errors.Is(o.Err, errNeeds):
			result.Skipped = append(result.Skipped, s.Stack)
		case o.Err != nil:
			result.Failed = append(result.Failed, o)
			if first == nil {
				first = o
			}
		}
	}
	if d.ctx.Err() != nil {
		return result, first
	}
	return result, errors.Join(first, d.names(outcomes))
}

var errNeeds = errors.New("a stack that it needs failed")

// stacks deploys tier by tier; in a tier a stack waits for those it needs, and
// all others go at once. After a failure no further tier is begun.
func (d *deployment) stacks() map[stack.Name]StackFailure {
	outcomes := map[stack.Name]StackFailure{}
	for start := 0; start < len(d.plan.Stacks); {
		end := start
		for end < len(d.plan.Stacks) && d.plan.Stacks[end].Tier == d.plan.Stacks[start].Tier {
			end++
		}
		failed := false
		for _, o := range outcomes {
			failed = failed || o.Err != nil
		}
		tier := d.plan.Stacks[start:end]
		start = end
		if failed {
			for _, s := range tier {
				if !s.Empty() {
					outcomes[s.Stack] = StackFailure{Stack: s.Stack, Err: errNeeds}
					d.options.Report(Event{Stack: s.Stack, Verb: Skipped})
				}
			}
			continue
		}
		for name, o := range d.tier(tier) {
			outcomes[name] = o
		}
	}
	return outcomes
}

func (d *deployment) tier(tier []StackPlan) map[stack.Name]StackFailure {
	type outcome struct {
		done    chan struct{}
		failure StackFailure
	}
	all := map[stack.Name]*outcome{}
	for _, s := range tier {
		all[s.Stack] = &outcome{done: make(chan struct{})}
	}
	var group sync.WaitGroup
	for _, s := range tier {
		mine := all[s.Stack]
		release, _ := d.project.Release(s.Stack)
		group.Go(func() {
			defer close(mine.done)
			for _, need := range release.Needs {
				// A stack comes after those it needs, so nobody waits in a circle.
				if other, ok := all[need]; ok && need != s.Stack {
					<-other.done
					if other.failure.Err != nil {
						mine.failure = StackFailure{Stack: s.Stack, Err: errNeeds}
						d.options.Report(Event{Stack: s.Stack, Verb: Skipped})
						return
					}
				}
			}
			if !s.Empty() {
				mine.failure = d.stack(release, s)
			}
		})
	}
	group.Wait()
	out := map[stack.Name]StackFailure{}
	for name, o := range all {
		if o.failure.Err != nil {
			out[name] = o.failure
		}
	}
	return out
}

func (d *deployment) createNetwork(of stack.Name, r network.CreateRequest) error {
	labels := map[string]string{}
	for k, v := range r.Labels {
		labels[k] = v
	}
	if of != "" {
		labels[LabelStack] = string(of)
	}
	r.Labels = labels
	if _, err := d.engine.CreateNetwork(d.ctx, r); err != nil {
		return fmt.Errorf("create network %s: %w", r.Name, err)
	}
	d.options.Report(Event{Stack: of, Verb: Created, Subject: "network " + r.Name})
	return nil
}

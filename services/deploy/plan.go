package deploy

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"

	"skep/generator/stack"
)

// Action is what happens to an object.
type Action string

const (
	Create  Action = "create"
	Update  Action = "update"
	Replace Action = "replace" // removed and created, for it cannot be changed in place
	Remove  Action = "remove"
)

// Kind is what an object is.
type Kind string

const (
	KindNetwork Kind = "network"
	KindConfig  Kind = "config"
	KindSecret  Kind = "secret"
	KindService Kind = "service"
	KindJob     Kind = "job"
)

// Change is what happens to one object.
type Change struct {
	Action Action  `json:"action"`
	Kind   Kind    `json:"kind"`
	Name   string  `json:"name"` // in the Swarm
	Fields []Field `json:"fields,omitempty"`
	// Restart says that tasks are replaced; a job runs again.
	Restart bool `json:"restart,omitempty"`
	// Why is said where the fields do not say it.
	Why string `json:"why,omitempty"`
	// Drift says that the change only undoes what somebody did by hand.
	Drift bool `json:"drift,omitempty"`
	// Live is the hash of what runs, so that a plan for something else is known
	// to be stale. An object's version would not do: the progress of a rolling
	// update moves it on.
	Live string `json:"live,omitempty"`
}

// StackPlan is what happens to one stack.
type StackPlan struct {
	Stack    stack.Name `json:"stack"`
	Tier     stack.Tier `json:"tier,omitempty"`
	Revision int        `json:"revision"` // that is deployed, 0 for none
	Changes  []Change   `json:"changes"`
	// Unchanged counts what stays as it is.
	Unchanged int `json:"unchanged"`
	// Orphans are objects of the stack that the bundle does not name; --prune
	// removes them.
	Orphans []string `json:"orphans,omitempty"`
	// Unfinished is the revision that a deploy left half-way, or that failed and
	// was kept, 0 for none.
	Unfinished int `json:"unfinished,omitempty"`
}

// Plan is what a deploy does.
type Plan struct {
	Cluster  string      `json:"cluster"`
	Networks []Change    `json:"networks,omitempty"` // shared ones, before all stacks
	Stacks   []StackPlan `json:"stacks"`
	// Names come last: people find a service once it answers.
	Names []NamesPlan `json:"names,omitempty"`
	// Problems stand in the way of applying the plan.
	Problems []string `json:"problems,omitempty"`
	// Absent are stacks that Skep deployed and the project no longer has.
	Absent []stack.Name `json:"absent,omitempty"`
}

// Empty reports whether there is nothing to do.
func (p Plan) Empty() bool {
	return len(p.Networks) == 0 && !slices.ContainsFunc(p.Stacks, func(s StackPlan) bool { return !s.Empty() }) &&
		!slices.ContainsFunc(p.Names, func(n NamesPlan) bool { return len(n.Changes) > 0 })
}

// Empty reports whether there is nothing to do.
func (p StackPlan) Empty() bool { return len(p.Changes) == 0 && p.Unfinished == 0 }

// Ready is an ErrNotReady with the problems, if there are any.
func (p Plan) Ready() error {
	if len(p.Problems) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrNotReady, strings.Join(p.Problems, "; "))
}

// Stack finds the plan of a stack.
func (p Plan) Stack(name stack.Name) (StackPlan, bool) {
	return find(p.Stacks, func(s *StackPlan) bool { return s.Stack == name })
}

// Scope says how far a plan goes.
type Scope struct {
	Prune bool `json:"prune,omitempty"` // remove orphans
	// Partial says that the project holds only some of the stacks.
	Partial bool `json:"partial,omitempty"`
	// BeforeSync plans what can be done once the secrets that are missing are made.
	// It is for looking, not for deploying.
	BeforeSync bool `json:"-"`
	// keepJobs leaves jobs alone, for going back must not run them again.
	keepJobs bool
}

// Compare plans how a Swarm becomes what the project says. It is a pure
// function; an error is a release that cannot be converted.
func Compare(p Project, live Live, scope Scope) (Plan, error) {
	plan := Plan{Cluster: p.Cluster, Stacks: []StackPlan{}}
	names := live.networkNames()
	history := revisions(live)
	made := map[string]bool{} // networks that exist once the stacks before are deployed
	for _, n := range p.Networks {
		made[n.Name] = true
		if c, ok := compareNetwork(n, live); ok {
			plan.Networks = append(plan.Networks, c)
			if on := live.on(n.Name); c.Action == Replace && len(on) > 0 {
				plan.blockReplaced(c, on)
			}
		}
	}
	all, err := p.desired()
	if err != nil {
		return Plan{}, err
	}
	for i, r := range p.Releases {
		d := all[i]
		c := comparison{desired: d, live: live, networkNames: names, history: history[r.Stack], scope: scope, plan: &plan, made: made, moves: map[string]string{}}
		plan.Stacks = append(plan.Stacks, c.stack())
	}
	if !scope.Partial {
		for name, list := range history {
			if _, ok := p.Release(name); !ok && list[0].Preview == "" {
				plan.Absent = append(plan.Absent, name)
			}
		}
		slices.Sort(plan.Absent)
	}
	return plan, nil
}

// comparison plans one stack.
type comparison struct {
	desired      *desired
	live         Live
	networkNames map[string]string
	history      []Revision
	scope        Scope
	plan         *Plan
	made         map[string]bool
	moves        map[string]string // services to the network that is replaced below them

	base    map[string]swarm.ServiceSpec // canonical, of the deployed revision
	hasBase bool
	out     StackPlan
}

func (c *comparison) stack() StackPlan {
	r := c.desired.release
	c.out = StackPlan{Stack: r.Stack, Tier: r.Tier, Changes: []Change{}}
	if current, ok := deployed(c.history); ok {
		c.out.Revision = current.Number
	}
	if last := len(c.history) - 1; last >= 0 && c.history[last].unfinished(r) {
		c.out.Unfinished = c.history[last].Number
	}
	for _, n := range c.desired.networks {
		c.made[n.Name] = true
		if change, ok := compareNetwork(n, c.live); ok {
			if change.Action == Replace {
				c.renetwork(change)
			} else {
				c.add(change)
			}
		} else {
			c.out.Unchanged++
		}
	}
	c.preview()
	for _, secret := range c.desired.driven {
		c.secret(secret)
	}
	c.needs()
	for _, config := range c.desired.configs {
		c.config(config)
	}
	for _, s := range c.desired.services {
		c.service(s)
	}
	c.orphans()
	return c.out
}

func (c *comparison) add(change Change) { c.out.Changes = append(c.out.Changes, change) }

func (c *comparison) problem(format string, args ...any) {
	c.plan.Problems = append(c.plan.Problems, fmt.Sprintf("stack %s: ", c.desired.release.Stack)+fmt.Sprintf(format, args...))
}

// needs checks what the stack takes from elsewhere.
func (c *comparison) needs() {
	for _, name := range c.desired.external {
		if _, ok := c.live.network(name); !ok && !c.made[name] {
			c.problem("there is no network %s; deploy the stack that owns it first", name)
		}
	}
	for _, name := range c.desired.secrets {
		switch _, ok := c.live.secret(name); {
		case ok || c.declares(name):
		case c.scope.BeforeSync:
			c.add(Change{Action: Create, Kind: KindSecret, Name: name, Why: "`skep secrets sync` makes it"})
		default:
			c.problem("there is no secret %s; `skep secrets sync` creates it", name)
		}
	}
}

func (c *comparison) config(want swarm.ConfigSpec) {
	got, ok := c.live.config(want.Name)
	switch {
	case !ok:
		c.add(Change{Action: Create, Kind: KindConfig, Name: want.Name})
	case !bytes.Equal(got.Spec.Data, want.Data):
		c.problem("config %s holds something else, and a config cannot change: remove it, or give it another name", want.Name)
	default:
		c.out.Unchanged++
	}
}

func (c *comparison) service(want desiredService) {
	kind := KindService
	if isJob(want.spec.Mode) {
		kind = KindJob
	}
	wanted := canonical(want.spec, nil)
	got, ok := c.live.service(want.spec.Name)
	if !ok {
		change := Change{Action: Create, Kind: kind, Name: want.spec.Name}
		if _, had := c.before(want.spec.Name); had && c.out.Unfinished == 0 {
			change.Drift, change.Why = true, "somebody removed it"
		}
		if kind == KindJob && c.scope.keepJobs {
			c.out.Unchanged++
			return
		}
		c.add(change)
		return
	}
	have := canonical(got.Spec, c.networkNames)
	change := Change{Action: Update, Kind: kind, Name: want.spec.Name}
	if !alike(have, wanted) && len(compareSpecs(have, wanted, nil)) > 0 { // the base costs reading a revision
		change.Fields = compareSpecs(have, wanted, c.baseOf(want.spec.Name))
		change.Live = hash(have)
	}
	if c.moves[want.spec.Name] != "" && (modeName(have.Mode) == modeName(wanted.Mode) || kind == KindJob) {
		c.moved(change, kind)
		return
	}
	if modeName(have.Mode) != modeName(wanted.Mode) {
		c.otherMode(change, have.Mode, wanted.Mode)
		return
	}
	if kind == KindJob {
		c.job(change, got)
		return
	}
	switch {
	case len(change.Fields) > 0:
		change.Restart = slices.ContainsFunc(change.Fields, func(f Field) bool { return f.Restarts })
		change.Drift = !slices.ContainsFunc(change.Fields, func(f Field) bool { return !f.Drift })
	case stuck(got.UpdateStatus):
		change.Restart, change.Why = true, "its last update is paused: "+got.UpdateStatus.Message
	default:
		c.out.Unchanged++
		return
	}
	c.add(change)
}

// otherMode plans what Swarm does not change in place. On the way back, where
// no job runs, a service that was a job is only removed.
func (c *comparison) otherMode(change Change, from, to swarm.ServiceMode) {
	if isJob(to) && c.scope.keepJobs {
		if isJob(from) {
			c.out.Unchanged++
			return
		}
		c.add(Change{Action: Remove, Kind: KindService, Name: change.Name, Restart: true, Why: "it was a job, which does not run again", Live: change.Live})
		return
	}
	change.Action, change.Restart = Replace, true
	change.Why = fmt.Sprintf("a %s service cannot become a %s one in place", modeName(from), modeName(to))
	c.add(change)
}

// stuck reports whether Swarm stopped in the middle of an update.
func stuck(u *swarm.UpdateStatus) bool {
	return u != nil && (u.State == swarm.UpdateStatePaused || u.State == swarm.UpdateStateRollbackPaused)
}

// job plans a job. Swarm runs a job again whenever it is updated, so it is
// touched only if what it runs changed, or if it failed.
func (c *comparison) job(change Change, got swarm.Service) {
	change.Fields = slices.DeleteFunc(change.Fields, func(f Field) bool { return !f.Restarts && !strings.HasPrefix(f.Path, "deploy.replicas") })
	switch {
	case c.scope.keepJobs:
		c.out.Unchanged++
		return
	case len(change.Fields) > 0:
		change.Restart = true
		change.Drift = !slices.ContainsFunc(change.Fields, func(f Field) bool { return !f.Drift })
	case jobFailed(got, c.live.tasks(got.ID)):
		change.Restart, change.Why = true, "its last run failed"
	default:
		c.out.Unchanged++
		return
	}
	c.add(change)
}

func modeName(m swarm.ServiceMode) string {
	switch {
	case m.Global != nil:
		return "global"
	case m.GlobalJob != nil:
		return "global-job"
	case m.ReplicatedJob != nil:
		return "replicated-job"
	}
	return "replicated"
}

// baseOf is what the deployed revision asked for, nil when it is not known.
func (c *comparison) baseOf(service string) *swarm.ServiceSpec {
	spec, ok := c.before(service)
	if !ok {
		return nil
	}
	return &spec
}

func (c *comparison) before(service string) (swarm.ServiceSpec, bool) {
	if !c.hasBase {
		c.hasBase = true
		c.base = map[string]swarm.ServiceSpec{}
		current, ok := deployed(c.history)
		if !ok {
			return swarm.ServiceSpec{}, false
		}
		// A revision that cannot be read says nothing about drift.
		if r, err := current.Release(); err == nil {
			if d, err := r.desired(); err == nil {
				for _, s := range d.services {
					c.base[s.spec.Name] = canonical(s.spec, nil)
				}
			}
		}
	}
	spec, ok := c.base[service]
	return spec, ok
}

// compareNetwork compares what a network cannot change: all of it.
func compareNetwork(want network.CreateRequest, live Live) (Change, bool) {
	got, ok := live.network(want.Name)
	if !ok {
		return Change{Action: Create, Kind: KindNetwork, Name: want.Name}, true
	}
	var fields []Field
	differ := func(path, old, now string) {
		if old != now {
			fields = append(fields, Field{Path: path, Old: old, New: now, Restarts: true})
		}
	}
	differ("driver", got.Driver, cmp.Or(want.Driver, overlayDriver))
	differ("internal", fmt.Sprint(got.Internal), fmt.Sprint(want.Internal))
	differ("attachable", fmt.Sprint(got.Attachable), fmt.Sprint(want.Attachable))
	differ("encrypted", encrypted(got.Options), encrypted(want.Options))
	if want.IPAM != nil {
		differ("subnet", subnets(got.IPAM.Config), subnets(want.IPAM.Config))
	}
	return Change{Action: Replace, Kind: KindNetwork, Name: want.Name, Fields: fields, Restart: true}, len(fields) > 0
}

func encrypted(options map[string]string) string {
	_, ok := options[encryptedOption]
	return fmt.Sprint(ok)
}

func subnets(pools []network.IPAMConfig) string {
	var out []string
	for _, p := range pools {
		if p.Subnet.IsValid() {
			out = append(out, p.Subnet.String())
		}
	}
	return strings.Join(out, ", ")
}

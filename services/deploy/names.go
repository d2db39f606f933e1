package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/swarm"

	"skep/generator/stack"
)

// Retire is the first half of a removal: a name is marked, and goes later.
const Retire Action = "retire"

// NamesKind is what keeps names.
type NamesKind string

const (
	NamesDNS    NamesKind = "dns"
	NamesTunnel NamesKind = "tunnel"
)

// Names lead people to the hosts of the stacks: the records of a zone, or the
// rules of a tunnel. They are outside the Swarm, and whoever keeps them may be
// away while the Swarm is well.
type Names interface {
	// Plan reads what is there. Hosts that keep picks are somebody else's and
	// stay. That nothing can be read is part of the plan, for it stops no deploy.
	Plan(ctx context.Context, keep func(host string) bool) NamesPlan
	// Apply reads again and makes the changes that may picks, telling done of each.
	Apply(ctx context.Context, keep func(host string) bool, may func(NameChange) bool, done func(NameChange, error)) error
}

// NamesPlan is what happens to a zone or a tunnel.
type NamesPlan struct {
	Kind      NamesKind    `json:"kind"`
	Name      string       `json:"name"`
	Changes   []NameChange `json:"changes"`
	Unchanged int          `json:"unchanged"`
	// Notes say what is not done, and why: names that others have, or too many
	// that would go at once.
	Notes []string `json:"notes,omitempty"`
	// Unread says why nobody could look. Nothing is changed then.
	Unread string `json:"unread,omitempty"`
}

func (p NamesPlan) title() string { return string(p.Kind) + " " + p.Name }

// NameChange is what happens to one name. It is comparable.
type NameChange struct {
	Action Action `json:"action"`
	Type   string `json:"type"` // of the record; "rule" of a tunnel
	Host   string `json:"host"`
	Old    string `json:"old,omitempty"`
	New    string `json:"new,omitempty"`
	Owner  string `json:"owner,omitempty"` // stack/service, when it is known
	Why    string `json:"why,omitempty"`
}

func (c NameChange) stack() stack.Name {
	name, _, _ := strings.Cut(c.Owner, "/")
	return stack.Name(name)
}

func (c NameChange) removes() bool { return c.Action == Remove || c.Action == Retire }

func (c NameChange) subject() string { return strings.ToLower(c.Type) + " " + c.Host }

// Look reads the Swarm, and then the names, and plans. The plan may have
// problems that stand in its way.
func Look(ctx context.Context, engine Reader, p Project, scope Scope, names []Names) (Live, Plan, error) {
	live, err := Read(ctx, engine)
	if err != nil {
		return Live{}, Plan{}, fmt.Errorf("read the Swarm: %w", err)
	}
	plan, err := Compare(p, live, scope)
	if err != nil {
		return live, Plan{}, err
	}
	plan.Names = planNames(ctx, p, live, scope, names)
	return live, plan, nil
}

// planNames plans all names at once, each as far as this deploy is concerned.
func planNames(ctx context.Context, p Project, live Live, scope Scope, names []Names) []NamesPlan {
	out := make([]NamesPlan, len(names))
	keep := p.keptHosts(live)
	var group sync.WaitGroup
	for i, n := range names {
		group.Go(func() {
			plan := n.Plan(ctx, keep)
			plan.Changes = slices.DeleteFunc(plan.Changes, func(c NameChange) bool { return !p.concerns(c, scope) })
			if plan.Changes == nil {
				plan.Changes = []NameChange{}
			}
			out[i] = plan
		})
	}
	group.Wait()
	return out
}

// concerns reports whether a deploy may change a name: a partial one those of
// its own stacks alone.
func (p Project) concerns(c NameChange, scope Scope) bool {
	_, ok := p.Release(c.stack())
	return ok || !scope.Partial
}

// keptHosts are the hosts of what runs beside the project: previews, and stacks
// that it no longer has and that are not down yet.
func (p Project) keptHosts(live Live) func(host string) bool {
	return Served(slices.DeleteFunc(slices.Clone(live.Services), func(s swarm.Service) bool {
		_, ok := p.Release(stack.Name(s.Spec.Labels[labelNamespace]))
		return ok
	}))
}

// Served picks the hosts that services have a site for.
func Served(services []swarm.Service) func(host string) bool {
	hosts := map[string]bool{}
	for _, s := range services {
		for _, host := range siteHosts(s.Spec.Labels) {
			hosts[host] = true
		}
	}
	return func(host string) bool { return hosts[host] }
}

// names makes the planned changes once the stacks are up. A stack that failed
// gets no name, and while one has failed no name goes: what is back may need it.
func (d *deployment) names(failed map[stack.Name]StackFailure) error {
	var errs []error
	for i, plan := range d.plan.Names {
		if plan.Unread != "" {
			d.options.Report(Event{Verb: Warned, Text: plan.title() + " was left alone: " + plan.Unread})
			if d.options.expects(plan) {
				errs = append(errs, fmt.Errorf("%s was not changed as planned: %s", plan.title(), plan.Unread))
			}
			continue
		}
		for _, note := range plan.Notes {
			d.options.Report(Event{Verb: Warned, Text: plan.title() + ": " + note})
		}
		may := func(c NameChange) bool {
			_, bad := failed[c.stack()]
			return slices.Contains(plan.Changes, c) && !bad && (len(failed) == 0 || !c.removes())
		}
		if !slices.ContainsFunc(plan.Changes, may) {
			continue
		}
		err := d.options.Names[i].Apply(d.ctx, d.project.keptHosts(d.live), may, func(c NameChange, err error) {
			d.options.Report(nameEvent(c, err))
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", plan.title(), err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		if len(failed) > 0 {
			return err
		}
		return WithHint(err, "the stacks are up; run `skep deploy` again for their names")
	}
	return nil
}

func nameEvent(c NameChange, err error) Event {
	e := Event{Verb: Created, Subject: c.subject(), Text: c.New}
	switch {
	case err != nil:
		e.Verb, e.Text = Failed, err.Error()
	case c.Action == Update:
		e.Verb = Updated
	case c.Action == Retire:
		e.Verb, e.Text = Updated, "to be removed: "+c.Why
	case c.Action == Remove:
		e.Verb, e.Text = Removed, ""
	}
	return e
}

// expects reports whether the plan that was agreed on changes these names.
func (o Options) expects(p NamesPlan) bool {
	if o.Expect == nil {
		return false
	}
	agreed, ok := o.Expect.names(p.Kind, p.Name)
	return ok && len(agreed.Changes) > 0
}

func (p Plan) names(kind NamesKind, name string) (NamesPlan, bool) {
	return find(p.Names, func(n *NamesPlan) bool { return n.Kind == kind && n.Name == name })
}

// agreed leaves alone the names that could not be read when the plan was made:
// nobody has seen what would happen to them.
func (p Plan) agreed(expect Plan) Plan {
	p.Names = slices.Clone(p.Names)
	for i, n := range p.Names {
		if before, ok := expect.names(n.Kind, n.Name); !ok || before.Unread != "" {
			p.Names[i] = NamesPlan{Kind: n.Kind, Name: n.Name, Changes: []NameChange{}, Unread: "nobody could read it when the plan was made"}
		}
	}
	return p
}

// comparable leaves out what two plans may differ in and still do the same:
// names that one of them could not read, and what is said of those that stay.
func (p Plan) comparable(other Plan) Plan {
	var names []NamesPlan
	for _, n := range p.Names {
		if o, ok := other.names(n.Kind, n.Name); ok && n.Unread == "" && o.Unread == "" {
			names = append(names, NamesPlan{Kind: n.Kind, Name: n.Name, Changes: n.Changes})
		}
	}
	p.Names = names
	return p
}

// DropNames removes the names of stacks that are gone, as those of a preview:
// what their services owned, and the hosts that they had.
func DropNames(ctx context.Context, live Live, p Project, gone []stack.Name, hosts []string, names []Names, report func(Event)) error {
	keep := p.keptHosts(Live{Services: slices.DeleteFunc(slices.Clone(live.Services), func(s swarm.Service) bool {
		return slices.Contains(gone, stack.Name(s.Spec.Labels[labelNamespace]))
	})})
	theirs := func(c NameChange) bool {
		return c.removes() && (slices.Contains(gone, c.stack()) || slices.Contains(hosts, c.Host))
	}
	var errs []error
	for _, n := range names {
		plan := n.Plan(ctx, keep)
		switch {
		case plan.Unread != "":
			report(Event{Verb: Warned, Text: fmt.Sprintf("%s was left alone: %s", plan.title(), plan.Unread)})
		case slices.ContainsFunc(plan.Changes, theirs):
			err := n.Apply(ctx, keep, theirs, func(c NameChange, err error) { report(nameEvent(c, err)) })
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", plan.title(), err))
			}
		}
	}
	return errors.Join(errs...)
}

package deploy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"

	"skep/generator/stack"
)

// Swarm changes nothing of a network, keeps its name taken until the last task
// has left it, and replaces the tasks of a service whose networks change. A
// network that differs is therefore replaced in one go: the services on it stop,
// the network is removed and made anew, and they start again. For that all of
// them must be the stack's; what others depend on is refused.

// renetwork plans a network of the stack that cannot be changed in place.
func (c *comparison) renetwork(change Change) {
	live, _ := c.live.network(change.Name)
	var move, others []string
	for _, s := range c.live.Services {
		if !attached(s.Spec, live) {
			continue
		}
		_, wanted := find(c.desired.services, func(d *desiredService) bool { return d.spec.Name == s.Spec.Name })
		if wanted && s.Spec.Labels[labelNamespace] == string(c.desired.release.Stack) {
			move = append(move, s.Spec.Name)
			c.moves[s.Spec.Name] = change.Name
		} else {
			others = append(others, s.Spec.Name)
		}
	}
	slices.Sort(move)
	_, known := deployed(c.history)
	switch {
	case len(others) > 0:
		c.plan.blockReplaced(change, others)
	case len(move) > 0 && !known && c.out.Unfinished == 0:
		// Nobody knows how to bring it back should the deploy fail.
		c.problem("network %s cannot be changed in place (%s), and the stack has no revision to go back to: `skep adopt %s` with the old setting makes one",
			change.Name, fieldPaths(change.Fields), c.desired.release.Stack)
	case len(move) > 0:
		change.Why = "stops and moves " + strings.Join(move, ", ")
	}
	c.add(change)
}

// blockReplaced refuses what would take services down that the plan does not name.
func (p *Plan) blockReplaced(c Change, on []string) {
	slices.Sort(on)
	p.Problems = append(p.Problems, fmt.Sprintf("network %s cannot be changed in place (%s), and %s would have to stop for it: take what is on it down first, with `skep down` or `docker service rm`, and deploy again",
		c.Name, fieldPaths(c.Fields), strings.Join(on, ", ")))
}

func fieldPaths(fields []Field) string {
	var paths []string
	for _, f := range fields {
		paths = append(paths, f.Path)
	}
	return strings.Join(paths, ", ")
}

// attached reports whether a service is on a network.
func attached(spec swarm.ServiceSpec, n network.Network) bool {
	return slices.ContainsFunc(spec.TaskTemplate.Networks, func(a swarm.NetworkAttachmentConfig) bool {
		return n.ID != "" && (a.Target == n.ID || a.Target == n.Name)
	})
}

// on lists the services on a network.
func (l Live) on(name string) []string {
	n, _ := l.network(name)
	var out []string
	for _, s := range l.Services {
		if attached(s.Spec, n) {
			out = append(out, s.Spec.Name)
		}
	}
	return out
}

// moved plans a service whose network is replaced. On the way back, where no
// job runs, a job is only removed.
func (c *comparison) moved(change Change, kind Kind) {
	change.Action, change.Restart = Replace, true
	change.Why = cmp.Or(change.Why, "network "+c.moves[change.Name]+" is replaced")
	if kind == KindJob {
		change.Why += "; it runs again"
		if c.scope.keepJobs {
			change.Action, change.Why = Remove, "network "+c.moves[change.Name]+" is replaced, and the job does not run again"
		}
	}
	c.add(change)
}

// renetwork replaces networks before anything else is done to the stack.
func (a *application) renetwork() error {
	for _, c := range a.plan.Changes {
		if c.Action != Replace || c.Kind != KindNetwork {
			continue
		}
		old, ok := a.live.network(c.Name)
		if !ok {
			continue
		}
		for _, s := range a.live.Services {
			if !attached(s.Spec, old) {
				continue
			}
			if err := a.engine.RemoveService(a.ctx, s.ID); err != nil {
				return fmt.Errorf("remove service %s: %w", s.Spec.Name, err)
			}
			a.tell(Event{Verb: Removed, Subject: "service " + s.Spec.Name, Text: "network " + c.Name + " is replaced"})
		}
		a.live.Services = slices.DeleteFunc(slices.Clone(a.live.Services), func(s swarm.Service) bool { return attached(s.Spec, old) })
		if err := a.remake(a.desired.release.Stack, old, a.desired.networks); err != nil {
			return err
		}
	}
	return nil
}

// remake removes a network that nothing is on, and creates it anew.
func (d *deployment) remake(of stack.Name, old network.Network, wanted []network.CreateRequest) error {
	if err := d.engine.RemoveNetwork(d.ctx, old.ID); err != nil {
		return fmt.Errorf("remove network %s: %w", old.Name, err)
	}
	d.options.Report(Event{Stack: of, Verb: Removed, Subject: "network " + old.Name})
	i := slices.IndexFunc(wanted, func(n network.CreateRequest) bool { return n.Name == old.Name })
	return d.createNetwork(of, wanted[i])
}

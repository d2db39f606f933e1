package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"skep/generator/stack"
)

// Rollback deploys an earlier revision of a stack again, as a new revision.
// Without a name it is the stack that was deployed last, without a number the
// revision before the one that is deployed. Jobs do not run.
func Rollback(ctx context.Context, engine Engine, name stack.Name, number int, o Options) (Result, Revision, error) {
	o = o.withDefaults()
	live, err := Read(ctx, newPatient(engine, o))
	if err != nil {
		return Result{}, Revision{}, fmt.Errorf("read the Swarm: %w", err)
	}
	target, err := rollbackTarget(live, name, number)
	if err != nil {
		return Result{}, Revision{}, err
	}
	release, err := target.Release()
	if err != nil {
		return Result{}, target, err
	}
	o.Scope = Scope{Partial: true, keepJobs: true}
	o.Commit, o.Note = func() string { return target.Commit }, fmt.Sprintf("rollback to revision %d", target.Number)
	result, err := Deploy(ctx, engine, Project{Releases: []Release{release}}, o)
	return result, target, err
}

func rollbackTarget(live Live, name stack.Name, number int) (Revision, error) {
	all := revisions(live)
	if name == "" {
		var newest Revision
		for _, list := range all {
			if last := list[len(list)-1]; last.When.After(newest.When) {
				newest = last
			}
		}
		if name = newest.Stack; name == "" {
			return Revision{}, WithHint(errors.New("there is no revision to go back to"), "`skep deploy` writes one for each stack")
		}
	}
	history := all[name]
	if len(history) == 0 {
		return Revision{}, WithHint(fmt.Errorf("stack %q has no revision", name), "`skep history` lists what was deployed")
	}
	if number != 0 {
		i := slices.IndexFunc(history, func(r Revision) bool { return r.Number == number })
		if i < 0 {
			return Revision{}, WithHint(fmt.Errorf("stack %s has no revision %d", name, number), "`skep history "+string(name)+"` lists them")
		}
		return history[i], nil
	}
	current, ok := deployed(history)
	if !ok {
		return Revision{}, WithHint(fmt.Errorf("no revision of stack %s was deployed whole", name), "name the revision to go to")
	}
	for _, r := range slices.Backward(history) {
		if r.State == StateDeployed && r.Number < current.Number && r.Content != current.Content {
			return r, nil
		}
	}
	return Revision{}, WithHint(fmt.Errorf("stack %s has no revision before %d", name, current.Number), "`skep history "+string(name)+"` lists them")
}

// Down removes a stack: services, then what they used, then its revisions.
// Volumes stay on their nodes. It reports what it removed.
func Down(ctx context.Context, engine Engine, name stack.Name, o Options) error {
	o = o.withDefaults()
	patient := newPatient(engine, o)
	live, err := Read(ctx, patient)
	if err != nil {
		return err
	}
	if len(StackObjects(live, name)) == 0 {
		return fmt.Errorf("there is no stack %s in the Swarm", name)
	}
	return withLease(ctx, patient, o, func(held context.Context) error { return down(held, patient, name, o) })
}

func down(ctx context.Context, engine Engine, name stack.Name, o Options) error {
	live, err := Read(ctx, engine)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range StackObjects(live, name) {
		if err := removeObject(ctx, engine, live, c); err != nil {
			errs = append(errs, fmt.Errorf("remove %s %s: %w", c.Kind, c.Name, err))
			continue
		}
		o.Report(Event{Stack: name, Verb: Removed, Subject: string(c.Kind) + " " + c.Name})
	}
	return errors.Join(errs...)
}

// StackObjects are the objects of a stack, as changes that remove them, in an
// order in which they can be. Secrets stay: they may have no other copy.
func StackObjects(live Live, name stack.Name) []Change {
	var out []Change
	for _, s := range live.Services {
		if s.Spec.Labels[labelNamespace] == string(name) {
			out = append(out, Change{Action: Remove, Kind: KindService, Name: s.Spec.Name})
		}
	}
	for _, c := range live.Configs {
		revision := c.Spec.Labels[LabelKind] == kindRevision && c.Spec.Labels[LabelStack] == string(name)
		if c.Spec.Labels[labelNamespace] == string(name) || revision {
			out = append(out, Change{Action: Remove, Kind: KindConfig, Name: c.Spec.Name})
		}
	}
	for _, n := range live.Networks {
		if n.Labels[labelNamespace] == string(name) {
			out = append(out, Change{Action: Remove, Kind: KindNetwork, Name: n.Name})
		}
	}
	order := []Kind{KindService, KindConfig, KindNetwork}
	slices.SortFunc(out, func(a, b Change) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)), strings.Compare(a.Name, b.Name))
	})
	return out
}

package deploy

import (
	"context"
	"fmt"
	"maps"
	"strconv"
)

// Adopt takes over a stack that something else deployed: its services get
// Skep's labels, which restarts no task. When the stack is what the release
// says, the release becomes its first revision. The plan is what a deploy
// would change afterwards.
func Adopt(ctx context.Context, engine Engine, p Project, o Options) (Plan, error) {
	o = o.withDefaults()
	o.Scope.Partial = true
	patient := newPatient(engine, o)
	release := p.Releases[0]
	live, err := Read(ctx, patient)
	if err != nil {
		return Plan{}, err
	}
	if _, ok := deployed(revisions(live)[release.Stack]); ok {
		return Plan{}, WithHint(fmt.Errorf("stack %s is Skep's already", release.Stack), "`skep plan` shows what a deploy would change")
	}
	if len(ServicesOf(live.Services, string(release.Stack))) == 0 {
		return Plan{}, WithHint(fmt.Errorf("no service in the Swarm belongs to a stack %s", release.Stack), "`skep deploy` creates it")
	}
	var plan Plan
	err = withLease(ctx, patient, o, func(held context.Context) (err error) {
		plan, err = adopt(held, patient, p, o)
		return err
	})
	return plan, err
}

func adopt(ctx context.Context, patient *patient, p Project, o Options) (Plan, error) {
	live, err := Read(ctx, patient)
	if err != nil {
		return Plan{}, err
	}
	plan, err := Compare(p, live, o.Scope)
	if err != nil {
		return Plan{}, err
	}
	release := p.Releases[0]
	d := &deployment{ctx: ctx, engine: patient, options: o, project: p, plan: plan, live: live}
	revision := Revision{}
	same := plan.Empty() && len(plan.Problems) == 0
	if same {
		if revision, err = d.beginRevision(release, plan.Stacks[0]); err != nil {
			return plan, err
		}
	}
	names := live.networkNames()
	for _, s := range ServicesOf(live.Services, string(release.Stack)) {
		if isJob(s.Spec.Mode) { // an update would run the job again
			continue
		}
		spec := s.Spec
		spec.Labels = maps.Clone(spec.Labels)
		spec.Labels[LabelStack] = string(release.Stack)
		spec.Labels[LabelHash] = hash(canonical(s.Spec, names))
		if same {
			spec.Labels[LabelRevision] = strconv.Itoa(revision.Number)
		}
		if err := updateService(ctx, patient, s, spec, false); err != nil {
			return plan, fmt.Errorf("label service %s: %w", s.Spec.Name, err)
		}
		o.Report(Event{Stack: release.Stack, Verb: Updated, Subject: "service " + s.Spec.Name, Text: "labels alone"})
	}
	if same {
		return plan, d.endRevision(revision, StateDeployed, "adopted")
	}
	return plan, nil
}

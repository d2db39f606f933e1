package deploy

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// beginRevision writes the revision before anything is changed, so that a
// deploy which is cut off leaves a trace. One that says the same is resumed.
func (d *deployment) beginRevision(release Release, plan StackPlan) (Revision, error) {
	content, _, err := release.content()
	if err != nil {
		return Revision{}, err
	}
	history := revisions(d.live)[release.Stack]
	number := 1
	if n := len(history); n > 0 {
		last := history[n-1]
		number = last.Number + 1
		if last.Content == content && last.State != StateFailed {
			return last, nil // unfinished, or only drift is undone
		}
	}
	r := Revision{
		Stack: release.Stack, Number: number, State: StatePending, Who: d.options.Who, When: d.options.Now(),
		Commit: d.options.Commit(), Note: d.options.Note, Content: content, Preview: release.Preview,
	}
	spec, err := r.encode(release)
	if err != nil {
		return Revision{}, err
	}
	if _, err := d.engine.CreateConfig(d.ctx, spec); err != nil {
		return Revision{}, fmt.Errorf("write revision %d of %s: %w", r.Number, r.Stack, err)
	}
	return r, nil
}

// endRevision says how a revision ended, also of a deploy that is interrupted.
func (d *deployment) endRevision(r Revision, state State, note string) error {
	if r.State == state {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), d.options.Patience+10*time.Second)
	defer cancel()
	configs, err := d.engine.Configs(ctx)
	if err != nil {
		return err
	}
	config, ok := Live{Configs: configs}.config(r.name())
	if !ok {
		return fmt.Errorf("revision %d of %s is gone", r.Number, r.Stack)
	}
	r.State = state
	if note != "" {
		r.Note = note
	}
	spec := config.Spec
	spec.Labels = r.labels()
	return d.engine.UpdateConfig(ctx, config.ID, config.Version, spec)
}

// forget removes the revisions that are not kept beside the present one. The
// stack does not depend on it: a failure is told, and the next deploy tries again.
func (d *deployment) forget(now Revision) {
	for _, r := range forgotten(revisions(d.live)[now.Stack], now, d.options.Keep) {
		if err := d.engine.RemoveConfig(d.ctx, r.config.ID); err != nil {
			d.options.Report(Event{Stack: now.Stack, Verb: Warned, Text: fmt.Sprintf("remove revision %d: %v", r.Number, err)})
			return
		}
	}
}

// forgotten are the revisions that are not kept beside the present one: those
// that failed or were cut off, for nobody goes back to them, and whole ones
// beyond the last few.
func forgotten(history []Revision, now Revision, keep int) []Revision {
	var out []Revision
	whole := 0
	if now.State == StateDeployed {
		whole++
	}
	for _, r := range slices.Backward(history) {
		switch {
		case r.Number == now.Number:
		case r.State == StateDeployed && whole < keep:
			whole++
		default:
			out = append(out, r)
		}
	}
	return out
}

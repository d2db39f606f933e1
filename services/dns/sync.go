package dns

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// List reads the records that the provider has of a zone now.
func List(ctx context.Context, p Provider, zone Zone) ([]Live, error) {
	live, err := p.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the records of %s: %w", zone.Domain, err)
	}
	return live, nil
}

// Read plans a zone from what the provider has now.
func Read(ctx context.Context, p Provider, zone Zone, o Options) (Plan, error) {
	live, err := List(ctx, p, zone)
	if err != nil {
		return Plan{}, err
	}
	return Compare(zone, live, p.Traits(), o), nil
}

// maxFailures in a row end a run: the provider is down, or refuses everything.
const maxFailures = 3

// Apply makes the changes of a plan, one after the other, and tells done of
// each. One that fails leaves the others alone. The error joins all failures.
func Apply(ctx context.Context, p Provider, plan Plan, done func(Change, error)) error {
	var failures []error
	row := 0
	for i, c := range plan.Changes {
		err := p.Apply(ctx, c)
		done(c, err)
		if err == nil {
			row = 0
			continue
		}
		failures = append(failures, fmt.Errorf("%s %s %s: %w", c.Action, c.Record.Type, c.Record.Name, err))
		if row++; ctx.Err() != nil || row == maxFailures {
			if left := len(plan.Changes) - i - 1; left > 0 {
				failures = append(failures, fmt.Errorf("gave up, %d changes left", left))
			}
			break
		}
	}
	return errors.Join(failures...)
}

package deploy

import (
	"maps"
	"slices"

	"github.com/moby/moby/api/types/swarm"
)

func (c *comparison) declares(secret string) bool {
	return slices.ContainsFunc(c.desired.driven, func(s swarm.SecretSpec) bool { return s.Name == secret })
}

// secret plans a secret of a driver. Swarm takes other labels, by which the
// driver finds the value, and silently keeps the driver.
func (c *comparison) secret(want swarm.SecretSpec) {
	got, ok := c.live.secret(want.Name)
	if !ok {
		c.add(Change{Action: Create, Kind: KindSecret, Name: want.Name, Why: "its value comes from driver " + want.Driver.Name})
		return
	}
	if got.Spec.Driver == nil || got.Spec.Driver.Name != want.Driver.Name {
		c.problem("secret %s is there and has another driver, which cannot change: remove it, or give it another name", want.Name)
		return
	}
	change := Change{Action: Update, Kind: KindSecret, Name: want.Name, Why: "tasks that start from now on see it"}
	paths := map[string]bool{}
	for _, labels := range []map[string]string{got.Spec.Labels, want.Labels} {
		for key := range labels {
			paths[key] = !ours(key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(paths)) {
		old, was := got.Spec.Labels[key]
		now, is := want.Labels[key]
		if paths[key] && (was != is || old != now) {
			path := "Labels[" + key + "]"
			change.Fields = append(change.Fields, Field{Path: "labels[" + key + "]", Old: shown(path, old, was), New: shown(path, now, is)})
		}
	}
	if len(change.Fields) == 0 {
		c.out.Unchanged++
		return
	}
	c.add(change)
}

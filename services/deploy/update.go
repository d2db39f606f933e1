package deploy

import (
	"context"
	"errors"
	"reflect"

	"github.com/moby/moby/api/types/swarm"
)

// updateAttempts is how often a service is written whose version moves on.
const updateAttempts = 5

// updateService gives a service another spec, unless somebody changed it since
// it was read. Its version alone does not tell: Swarm writes services too.
func updateService(ctx context.Context, engine Engine, read swarm.Service, spec swarm.ServiceSpec, resolve bool) error {
	now := read
	for attempt := 1; ; attempt++ {
		err := engine.UpdateService(ctx, now.ID, now.Version, spec, resolve)
		if !errors.Is(err, ErrChanged) || attempt == updateAttempts {
			return err
		}
		services, readErr := engine.Services(ctx)
		if readErr != nil {
			return readErr
		}
		var there bool
		now, there = find(services, func(s *swarm.Service) bool { return s.ID == read.ID })
		if !there || !movedBySwarm(now, read) {
			return err
		}
	}
}

// movedBySwarm reports whether nobody but Swarm wrote a service since it was
// read. When a rolling update begins, ends or pauses, and when a new leader
// allocates addresses, both specs stay. When an update fails, the spec before
// takes the place of the other, of which nothing is left; somebody who rolls a
// service back swaps the two (manager/orchestrator/update and
// manager/controlapi in SwarmKit).
func movedBySwarm(now, read swarm.Service) bool {
	before := read.PreviousSpec
	if before != nil && now.PreviousSpec == nil {
		return reflect.DeepEqual(now.Spec, *before)
	}
	return reflect.DeepEqual(now.Spec, read.Spec) && reflect.DeepEqual(now.PreviousSpec, before)
}

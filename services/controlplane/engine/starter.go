package engine

import (
	"context"

	"skep/services/controlplane"
)

// Runs keeps them.
type Runs interface {
	// Start keeps a run by its key, once, and says which one it is.
	Start(ctx context.Context, r controlplane.Run) (id controlplane.RunID, created bool, err error)
}

// Starter keeps a run before the engine hears of it: what the engine forgets
// can be told again, with the same key and to the same end.
type Starter struct {
	Runs   Runs
	Engine *Engine
}

// Start queues a run.
func (s Starter) Start(ctx context.Context, run controlplane.Run) error {
	id, _, err := s.Runs.Start(ctx, run)
	if err != nil {
		return err
	}
	run.ID = id
	return s.Engine.Start(ctx, run)
}

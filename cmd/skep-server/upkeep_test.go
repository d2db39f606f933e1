package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"skep/services/controlplane"
)

type keptThings struct {
	mu      sync.Mutex
	expired []controlplane.Preview
	pruned  []time.Duration
	started []controlplane.Run
	asked   int
	waiting []time.Duration // of what was asked for
	told    toldEngine
}

// toldEngine is away the first time.
type toldEngine struct {
	asked int
	runs  []controlplane.RunID
}

func (e *toldEngine) Start(_ context.Context, r controlplane.Run) error {
	if e.asked++; e.asked == 1 {
		return errors.New("away")
	}
	e.runs = append(e.runs, r.ID)
	return nil
}

func (k *keptThings) WaitingRuns(_ context.Context, before time.Time) ([]controlplane.Run, error) {
	k.waiting = append(k.waiting, time.Since(before))
	return []controlplane.Run{{ID: "r1"}, {ID: "r2"}}, nil
}

func (k *keptThings) ExpiredPreviews(context.Context) ([]controlplane.Preview, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.asked++; k.asked == 1 {
		return nil, errors.New("away")
	}
	return k.expired, nil
}
func (k *keptThings) Project(_ context.Context, n controlplane.Name) (controlplane.Project, error) {
	return controlplane.Project{Name: n, Cluster: "c", Repository: "a/b"}, nil
}
func (k *keptThings) prune(before time.Time) (int64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pruned = append(k.pruned, time.Since(before))
	return 1, nil
}
func (k *keptThings) PruneDeliveries(_ context.Context, t time.Time) (int64, error) {
	return k.prune(t)
}
func (k *keptThings) PruneEvents(_ context.Context, t time.Time) (int64, error) { return k.prune(t) }
func (k *keptThings) PruneRuns(_ context.Context, t time.Time) (int64, error)   { return k.prune(t) }
func (k *keptThings) PruneAudit(_ context.Context, t time.Time) (int64, error)  { return k.prune(t) }
func (k *keptThings) Start(_ context.Context, r controlplane.Run) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.started = append(k.started, r)
	return nil
}

func TestUpkeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keptThings{expired: []controlplane.Preview{{Project: "home", Number: 7, Expires: time.Now().Add(-time.Second)}}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- upkeep{k, k, &k.told, slog.New(slog.DiscardHandler)}.run(ctx) }()
		synctest.Wait()
		k.mu.Lock()
		if len(k.started) != 0 || len(k.pruned) != 4 {
			t.Errorf("at first: started %+v, pruned %v", k.started, k.pruned)
		}
		k.mu.Unlock()
		time.Sleep(2*time.Minute + time.Second)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(k.started) != 2 || k.started[0].Key != k.started[1].Key {
			t.Fatalf("started %+v", k.started)
		}
		r := k.started[0]
		var in controlplane.Input
		if err := json.Unmarshal(r.Input, &in); err != nil {
			t.Fatal(err)
		}
		if r.Kind != controlplane.RunDestroy || r.Queue != "c/preview:7" || in.Change.PullRequest.Number != 7 {
			t.Errorf("started %+v with %+v", r, in)
		}
		if len(k.pruned) != 4 {
			t.Errorf("pruned %v", k.pruned)
		}
	})
}

// A preview whose removal failed is removed again, later each time.
func TestUpkeepRemovesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keptThings{expired: []controlplane.Preview{{Project: "home", Number: 7, Expires: time.Now()}}}
		ctx, cancel := context.WithTimeout(t.Context(), 9*time.Hour)
		defer cancel()
		if err := (upkeep{k, k, &k.told, slog.New(slog.DiscardHandler)}).run(ctx); err != nil {
			t.Error(err)
		}
		keys := map[string]bool{}
		for _, r := range k.started {
			keys[r.Key] = true
		}
		if len(keys) != 5 { // at once, and after 1, 2, 4 and 8 hours
			t.Errorf("within 9 hours it is removed %d times", len(keys))
		}
	})
}

// The engine hears again of runs that wait for long, and of none that does not.
func TestUpkeepTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keptThings{}
		ctx, cancel := context.WithTimeout(t.Context(), tellEvery+2*everyMinute)
		defer cancel()
		if err := (upkeep{k, k, &k.told, slog.New(slog.DiscardHandler)}).run(ctx); err != nil {
			t.Error(err)
		}
		if !slices.Equal(k.waiting, []time.Duration{tellEvery, tellEvery}) || k.told.asked != 3 || !slices.Equal(k.told.runs, []controlplane.RunID{"r1", "r2"}) {
			t.Errorf("asked for runs of %v ago, told %d times, the last of %q", k.waiting, k.told.asked, k.told.runs)
		}
	})
}

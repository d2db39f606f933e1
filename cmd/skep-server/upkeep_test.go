package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
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
		go func() { done <- upkeep{k, k, slog.New(slog.DiscardHandler)}.run(ctx) }()
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

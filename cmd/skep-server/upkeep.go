package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"time"

	"skep/services/controlplane"
)

// upkeep is what the server does now and then. Every server does it: each part
// is safe to do twice.
type upkeep struct {
	store   keeper
	starter starter // of runs that are not stored yet
	engine  starter // of those that are
	log     *slog.Logger
}

type starter interface {
	Start(context.Context, controlplane.Run) error
}

type keeper interface {
	ExpiredPreviews(context.Context) ([]controlplane.Preview, error)
	Project(context.Context, controlplane.Name) (controlplane.Project, error)
	// WaitingRuns are some of those that were stored before a time, are not over,
	// and are not worked on: by id, queue and class.
	WaitingRuns(ctx context.Context, before time.Time) ([]controlplane.Run, error)
	PruneDeliveries(ctx context.Context, before time.Time) (int64, error)
	PruneEvents(ctx context.Context, before time.Time) (int64, error)
	PruneRuns(ctx context.Context, before time.Time) (int64, error)
	PruneAudit(ctx context.Context, before time.Time) (int64, error)
}

// What is kept, and for how long.
const (
	everyMinute   = time.Minute
	pruneEvery    = time.Hour
	tellEvery     = 30 * time.Minute
	keepDelivery  = 30 * 24 * time.Hour
	keepEvents    = 7 * 24 * time.Hour
	keepRuns      = 90 * 24 * time.Hour
	keepAudit     = 365 * 24 * time.Hour
	upkeepTimeout = 30 * time.Second
)

// run works until ctx ends. What fails is logged, and tried again next time.
func (u upkeep) run(ctx context.Context) error {
	tick := time.NewTicker(everyMinute)
	defer tick.Stop()
	var pruned, told time.Time
	for {
		u.attempt(ctx, "remove expired previews", u.previews)
		if time.Since(pruned) > pruneEvery {
			pruned = time.Now()
			u.attempt(ctx, "remove what is old", u.prune)
		}
		if time.Since(told) > tellEvery {
			told = time.Now()
			u.attempt(ctx, "tell the workflow engine of runs that wait", u.waiting)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (u upkeep) attempt(ctx context.Context, what string, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, upkeepTimeout)
	defer cancel()
	if err := f(ctx); err != nil && !errors.Is(err, context.Canceled) {
		u.log.WarnContext(ctx, "upkeep failed, it is tried again", "what", what, "error", err)
	}
}

// previews starts the removal of each that is over its time. One that is still
// there is removed again: an hour after its time, two, four, and so on.
func (u upkeep) previews(ctx context.Context) error {
	expired, err := u.store.ExpiredPreviews(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range expired {
		project, err := u.store.Project(ctx, p.Project)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		input, err := json.Marshal(controlplane.Input{Change: controlplane.Change{
			Kind: controlplane.ChangeClosed, Repository: project.Repository, PullRequest: &controlplane.PullRequest{Number: p.Number},
		}})
		if err != nil {
			return err
		}
		errs = append(errs, u.starter.Start(ctx, controlplane.Run{
			Key:  fmt.Sprintf("expired/%s/%d/%d/%d", p.Project, p.Number, p.Expires.Unix(), bits.Len(uint(max(time.Since(p.Expires)/time.Hour, 0)))),
			Kind: controlplane.RunDestroy, Project: p.Project, Priority: controlplane.Batch, Input: input,
			Queue: project.PreviewQueue(p.Number), Supersedes: true,
		}))
	}
	return errors.Join(errs...)
}

// waiting has the engine start what it may not know: whoever stored a run may have
// died before it told the engine, which may have given it up, or lost its
// database. What it knows it starts once.
func (u upkeep) waiting(ctx context.Context) error {
	runs, err := u.store.WaitingRuns(ctx, time.Now().Add(-tellEvery))
	if err != nil {
		return err
	}
	for _, r := range runs {
		if err := u.engine.Start(ctx, r); err != nil {
			return err // it is away: so it is for the others
		}
	}
	return nil
}

func (u upkeep) prune(ctx context.Context) error {
	now := time.Now()
	var errs []error
	for _, part := range []struct {
		prune func(context.Context, time.Time) (int64, error)
		keep  time.Duration
	}{
		{u.store.PruneDeliveries, keepDelivery}, {u.store.PruneEvents, keepEvents}, {u.store.PruneRuns, keepRuns}, {u.store.PruneAudit, keepAudit},
	} {
		_, err := part.prune(ctx, now.Add(-part.keep))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

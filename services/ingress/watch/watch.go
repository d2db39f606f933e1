// Package watch keeps a picture of what Docker knows: by events, by listings
// of what the events name, and by bulk listings from time to time.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"

	"skep/services/ingress/label"
)

// Engine is what is asked of Docker.
type Engine interface {
	Swarm(ctx context.Context) (bool, error)
	Services(ctx context.Context, ids ...string) ([]swarm.Service, error)
	Tasks(ctx context.Context, services ...string) ([]swarm.Task, error)
	Containers(ctx context.Context, stoppedToo bool) ([]container.Summary, error)
	Networks(ctx context.Context) ([]network.Summary, error)
	Configs(ctx context.Context, label string) ([]swarm.Config, error)
	Events(ctx context.Context) (<-chan events.Message, <-chan error)
}

// Options are the times of a watch.
type Options struct {
	Prefix     string        // of labels
	StoppedToo bool          // containers that do not run count
	Throttle   time.Duration // how long events are collected before Docker is asked
	// TaskPoll is how often tasks are listed: Docker sends no event when a task
	// moves on another node. After an event they are listed sooner.
	TaskPoll time.Duration
	Resync   time.Duration // how often everything is listed
	// Retry is the longest wait before connecting again; the first is short.
	Retry time.Duration
}

// Watch calls publish with every new picture until ctx is done. It connects
// again whenever Docker is lost and reports each loss.
type Watch struct {
	Engine  Engine
	Options Options
	Log     *slog.Logger
	Publish func(label.State)
	// Connected is told whether Docker answers, and why not.
	Connected func(error)
}

// firstRetry is the wait after a connection that had worked was lost.
const firstRetry = 50 * time.Millisecond

// Run blocks until ctx is done.
func (w *Watch) Run(ctx context.Context) error {
	wait := firstRetry
	for {
		worked, err := w.session(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if worked {
			wait = firstRetry
		}
		w.Connected(err)
		w.Log.Warn("Docker is lost, connecting again", "error", err, "in", wait)
		if !sleep(ctx, wait+rand.N(wait/4+1)) {
			return ctx.Err()
		}
		wait = min(2*wait, max(w.Options.Retry, firstRetry))
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// session is one connection: everything is listed once events flow, so that
// nothing falls between.
func (w *Watch) session(ctx context.Context) (worked bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	managed, err := w.Engine.Swarm(ctx)
	if err != nil {
		return false, err
	}
	messages, errs := w.Engine.Events(ctx)
	p := &picture{engine: w.Engine, options: w.Options, swarm: managed}
	if err := p.list(ctx); err != nil {
		return false, err
	}
	w.Connected(nil)
	w.Publish(p.state())
	return true, w.follow(ctx, p, messages, errs)
}

func (w *Watch) follow(ctx context.Context, p *picture, messages <-chan events.Message, errs <-chan error) error {
	resync := time.NewTicker(w.Options.Resync)
	defer resync.Stop()
	poll := newBackoff(w.Options.TaskPoll)
	defer poll.stop()
	throttle := newAlarm()
	defer throttle.timer.Stop()
	for {
		var changed bool
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-errs:
			return fmt.Errorf("events of Docker: %w", errors.Join(err, ctx.Err()))
		case m := <-messages:
			if p.note(m) {
				throttle.set(w.Options.Throttle)
				poll.soon()
			}
			continue
		case <-throttle.timer.C:
			throttle.armed = false
			changed, err = p.refresh(ctx)
		case <-poll.timer.C:
			changed, err = p.pollTasks(ctx, poll.settling())
			if poll.next() {
				p.cool()
			}
		case <-resync.C:
			changed, err = true, p.list(ctx)
		}
		if err != nil {
			return err
		}
		if changed {
			w.Publish(p.state())
		}
	}
}

// alarm is a timer that an earlier event has set.
type alarm struct {
	timer *time.Timer
	armed bool
}

func newAlarm() *alarm {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &alarm{timer: t}
}

func (a *alarm) set(d time.Duration) {
	if !a.armed {
		a.armed = true
		a.timer.Reset(d)
	}
}

// backoff polls soon after an event, then ever more slowly.
type backoff struct {
	timer *time.Timer
	every time.Duration
	wait  time.Duration
}

// soonest is the first poll after an event.
const soonest = 200 * time.Millisecond

func newBackoff(every time.Duration) *backoff {
	return &backoff{timer: time.NewTimer(every), every: every, wait: every}
}

func (b *backoff) stop()          { b.timer.Stop() }
func (b *backoff) settling() bool { return b.wait < b.every }

func (b *backoff) soon() {
	b.wait = min(soonest, b.every)
	b.timer.Reset(b.wait)
}

// next sets the next poll and reports whether the usual pace is reached.
func (b *backoff) next() bool {
	b.wait = min(2*b.wait, b.every)
	b.timer.Reset(b.wait)
	return b.wait == b.every
}

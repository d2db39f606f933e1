package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"skep/services/controlplane"
	"skep/services/controlplane/schedule"
)

// ScheduleInput is a schedule on its way in: either cron or at.
type ScheduleInput struct {
	Task    controlplane.Name          `json:"task" maxLength:"63"`
	Cron    string                     `json:"cron,omitempty" maxLength:"200" doc:"Five fields: minute, hour, day of month, month, day of week" example:"30 4 * * mon"`
	At      *time.Time                 `json:"at,omitempty" doc:"Once, at this time"`
	Zone    string                     `json:"zone,omitempty" maxLength:"100" default:"UTC" doc:"Of the IANA time zone database" example:"Europe/Berlin"`
	Overlap controlplane.OverlapPolicy `json:"overlap,omitempty" enum:"skip,queue,replace" default:"skip" doc:"What happens when the last run is not over yet"`
	Paused  bool                       `json:"paused,omitempty"`
}

// Schedule starts a task at a time, or again and again.
type Schedule struct {
	Name    controlplane.Name          `json:"name"`
	Task    controlplane.Name          `json:"task"`
	Cron    string                     `json:"cron,omitempty"`
	Zone    string                     `json:"zone"`
	Overlap controlplane.OverlapPolicy `json:"overlap" enum:"skip,queue,replace"`
	Paused  bool                       `json:"paused"`
	Next    *time.Time                 `json:"next,omitempty" doc:"None if it never runs again"`
	Last    *time.Time                 `json:"last,omitempty"`
	Created time.Time                  `json:"created"`
}

func showSchedule(s controlplane.Schedule) Schedule {
	return Schedule{
		Name: s.Name, Task: s.Task, Cron: s.Cron, Zone: s.Zone, Overlap: s.Overlap, Paused: s.Paused,
		Next: timestamp(s.Next), Last: timestamp(s.Last), Created: s.Created.UTC(),
	}
}

// schedule is the input as the domain has it, with all that is wrong at once.
func (in ScheduleInput) schedule(name controlplane.Name, now time.Time) (controlplane.Schedule, error) {
	var problems []*huma.ErrorDetail
	if _, err := controlplane.ParseName(string(in.Task)); err != nil {
		problems = append(problems, at("body.task", "%v", err))
	}
	// Alone first, so that what is wrong is said at its place.
	if _, err := schedule.Parse("0 0 * * *", in.Zone); err != nil {
		problems, in.Zone = append(problems, at("body.zone", "%v", err)), "UTC"
	}
	var next time.Time
	switch {
	case in.Cron == "" && in.At == nil:
		problems = append(problems, at("body", "has neither cron nor at"))
	case in.Cron != "" && in.At != nil:
		problems = append(problems, at("body", "has both cron and at"))
	case in.At != nil:
		if next = in.At.UTC(); !next.After(now) {
			problems = append(problems, at("body.at", "has passed"))
		}
	default:
		times, err := schedule.Parse(in.Cron, in.Zone)
		if err != nil {
			problems = append(problems, at("body.cron", "%v", err))
		} else if next = times.Next(now); next.IsZero() {
			problems = append(problems, at("body.cron", "never comes true"))
		}
	}
	if len(problems) > 0 {
		return controlplane.Schedule{}, refuse(problems...)
	}
	return controlplane.Schedule{
		Name: name, Task: in.Task, Cron: in.Cron, Zone: in.Zone, Overlap: in.Overlap, Paused: in.Paused, Next: next.UTC(),
	}, nil
}

func (a *API) scheduleRoutes() {
	const one = "/schedules/{name}"
	register(a, operation{
		id: "schedule.list", method: http.MethodGet, path: "/schedules", summary: "List schedules", scope: controlplane.ScopeRead,
	}, func(ctx context.Context, in *Paging) (*Reply[Page[Schedule]], error) {
		after, err := in.key("schedules")
		if err != nil {
			return nil, err
		}
		found, err := a.options.Store.ListSchedules(ctx, controlplane.Name(after), in.Limit)
		return reply(named("schedules", in.Limit, found, func(s controlplane.Schedule) controlplane.Name { return s.Name }, showSchedule), err)
	})
	register(a, operation{
		id: "schedule.get", method: http.MethodGet, path: one, summary: "Show a schedule", scope: controlplane.ScopeRead,
	}, func(ctx context.Context, in *ByName) (*Reply[Schedule], error) {
		found, err := a.options.Store.Schedule(ctx, in.Name)
		return reply(showSchedule(found), err)
	})
	register(a, operation{
		id: "schedule.put", method: http.MethodPut, path: one, summary: "Create a schedule or replace it", scope: controlplane.ScopeTasks,
	}, func(ctx context.Context, in *struct {
		ByName
		Body ScheduleInput
	}) (*Reply[Schedule], error) {
		s, err := in.Body.schedule(in.Name, a.options.Now())
		if err != nil {
			return nil, err
		}
		stored, err := a.options.Store.PutSchedule(ctx, s)
		return reply(showSchedule(stored), err)
	})
	register(a, operation{
		id: "schedule.delete", method: http.MethodDelete, path: one, summary: "Delete a schedule",
		scope: controlplane.ScopeTasks, status: http.StatusNoContent,
	}, func(ctx context.Context, in *ByName) (*nothing, error) {
		return done(a.options.Store.DeleteSchedule(ctx, in.Name))
	})
}

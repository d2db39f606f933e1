package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

// Run is one durable piece of work.
type Run struct {
	ID       controlplane.RunID    `json:"id"`
	Kind     controlplane.RunKind  `json:"kind"`
	Project  controlplane.Name     `json:"project,omitempty"`
	Task     controlplane.Name     `json:"task,omitempty"`
	Queue    string                `json:"queue,omitempty" doc:"Runs of a queue wait for one another, the newest wins"`
	Priority controlplane.Priority `json:"priority" enum:"critical,normal,batch"`
	State    controlplane.RunState `json:"state" enum:"queued,running,succeeded,failed,cancelled,superseded"`
	Error    string                `json:"error,omitempty"`
	Created  time.Time             `json:"created"`
	Started  *time.Time            `json:"started,omitempty"`
	Ended    *time.Time            `json:"ended,omitempty"`
}

// FullRun is a run with what it began with and what came of it.
type FullRun struct {
	Run
	Input  json.RawMessage `json:"input"`
	Output json.RawMessage `json:"output"`
}

// ByRun is the path of a run.
type ByRun struct {
	ID controlplane.RunID `path:"id" pattern:"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$" patternDescription:"a UUID in lower case"`
}

func showRun(r controlplane.Run) Run {
	return Run{
		ID: r.ID, Kind: r.Kind, Project: r.Project, Task: r.Task, Queue: r.Queue, Priority: r.Priority, State: r.State, Error: r.Error,
		Created: r.Created.UTC(), Started: timestamp(r.Started), Ended: timestamp(r.Ended),
	}
}

func (a *API) runRoutes() {
	const one = "/runs/{id}"
	register(a, operation{
		id: "run.list", method: http.MethodGet, path: "/runs", summary: "List runs, the newest first", scope: controlplane.ScopeRead,
	}, func(ctx context.Context, in *struct {
		Paging
		Project controlplane.Name     `query:"project" maxLength:"63"`
		Task    controlplane.Name     `query:"task" maxLength:"63"`
		State   controlplane.RunState `query:"state" enum:"queued,running,succeeded,failed,cancelled,superseded"`
	}) (*Reply[Page[Run]], error) {
		list := filters("runs", string(in.Project), string(in.Task), string(in.State))
		before, err := in.number(list)
		if err != nil {
			return nil, err
		}
		filter := store.RunFilter{Project: in.Project, Task: in.Task, State: in.State}
		found, next, err := a.options.Store.ListRuns(ctx, filter, store.Page{Before: before, Limit: in.Limit})
		return reply(numbered(list, found, next, showRun), err)
	})
	register(a, operation{
		id: "run.get", method: http.MethodGet, path: one, summary: "Show a run", scope: controlplane.ScopeRead,
	}, func(ctx context.Context, in *ByRun) (*Reply[FullRun], error) {
		r, err := a.options.Store.Run(ctx, in.ID)
		return reply(FullRun{Run: showRun(r), Input: document(r.Input), Output: document(r.Output)}, err)
	})
	register(a, operation{
		id: "project.run", method: http.MethodPost, path: "/projects/{name}/runs",
		summary: "Check, plan or deploy a project's stacks, preview a pull request, or rotate secrets, now",
		scope:   controlplane.ScopeDeploy, status: http.StatusAccepted,
	}, a.startProject)
	register(a, operation{
		id: "run.cancel", method: http.MethodPost, path: one + "/cancel", summary: "Cancel a run that waits or works",
		scope: controlplane.ScopeDeploy, status: http.StatusAccepted, errors: []int{http.StatusConflict},
	}, func(ctx context.Context, in *ByRun) (*nothing, error) {
		return done(a.options.Store.Cancel(ctx, in.ID, "cancelled by "+actor(callerOf(ctx).token)))
	})
}

// ProjectRun is what one run of a project does.
type ProjectRun struct {
	Kind   controlplane.RunKind `json:"kind" enum:"check,plan,deploy,preview,rotate"`
	Stacks []controlplane.Name  `json:"stacks,omitempty" maxItems:"200" nullable:"false" doc:"All of them if it is empty"`
	Number int                  `json:"number,omitempty" minimum:"0" maximum:"2147483647" doc:"Of the pull request that is previewed"`
}

// startProject starts what a built-in task would, without one that is stored.
func (a *API) startProject(ctx context.Context, in *struct {
	ByName
	Key  string `header:"Idempotency-Key" maxLength:"200" pattern:"^[!-~]*$" doc:"Two calls with the same one start one run"`
	Body ProjectRun
}) (*Reply[Started], error) {
	builtin := Builtin{Kind: in.Body.Kind, Project: in.Name, Stacks: in.Body.Stacks, Number: in.Body.Number}
	if problems := builtin.problems("body"); len(problems) > 0 {
		return nil, refuse(problems...)
	}
	stored := controlplane.Builtin(builtin)
	task := controlplane.Task{Priority: controlplane.Normal, TaskSpec: controlplane.TaskSpec{Builtin: &stored}}
	return a.begin(ctx, task, controlplane.TaskInput{}, fmt.Sprintf("project/%s/%s", in.Name, in.Body.Kind), in.Key)
}

// document is JSON even where there is none.
func document(raw []byte) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("null")
	}
	return raw
}

package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"skep/services/controlplane"
)

// TaskInput is a task on its way in.
type TaskInput struct {
	Priority    controlplane.Priority         `json:"priority,omitempty" enum:"critical,normal,batch" default:"normal"`
	Builtin     *Builtin                      `json:"builtin,omitempty" doc:"A run of a project, in place of an image and all that follows"`
	Image       string                        `json:"image,omitempty" maxLength:"500"`
	Command     []string                      `json:"command,omitempty" maxItems:"1000" nullable:"false"`
	Inputs      map[string]string             `json:"inputs,omitempty" doc:"The container's environment. It is shown: name credentials instead"`
	Credentials []controlplane.CredentialName `json:"credentials,omitempty" maxItems:"50" nullable:"false" doc:"Integrations whose credentials the task gets"`
	Limits      TaskLimits                    `json:"limits,omitzero"`
	Deadline    Duration                      `json:"deadline,omitempty" doc:"Of one attempt"`
	Retries     TaskRetries                   `json:"retries,omitzero"`
}

// Builtin is a run of a project: what skep does with its stacks.
type Builtin struct {
	Kind    controlplane.RunKind `json:"kind" enum:"check,plan,deploy,preview,rotate"`
	Project controlplane.Name    `json:"project" maxLength:"63"`
	Stacks  []controlplane.Name  `json:"stacks,omitempty" maxItems:"200" nullable:"false" doc:"All of them if it is empty"`
	Number  int                  `json:"number,omitempty" minimum:"0" maximum:"2147483647" doc:"Of the pull request that is previewed"`
}

// problems are what is wrong with it, at its places below where.
func (b Builtin) problems(where string) []*huma.ErrorDetail {
	var problems []*huma.ErrorDetail
	if _, err := controlplane.ParseName(string(b.Project)); err != nil {
		problems = append(problems, at(where+".project", "%v", err))
	}
	for i, s := range b.Stacks {
		if _, err := controlplane.ParseName(string(s)); err != nil {
			problems = append(problems, at(fmt.Sprintf("%s.stacks[%d]", where, i), "%v", err))
		}
	}
	if err := controlplane.Builtin(b).Check(); err != nil {
		problems = append(problems, at(where, "%v", err))
	}
	return problems
}

// TaskLimits are what a worker may use; 0 is the launcher's default.
type TaskLimits struct {
	CPU    float64 `json:"cpu,omitempty" minimum:"0" maximum:"1024" doc:"Cores"`
	Memory int64   `json:"memory,omitempty" minimum:"0" maximum:"17592186044416" doc:"Bytes"`
	PIDs   int64   `json:"pids,omitempty" minimum:"0" maximum:"4194304"`
}

// TaskRetries says what follows an attempt that failed.
type TaskRetries struct {
	Max     int      `json:"max,omitempty" minimum:"0" maximum:"100"`
	Backoff Duration `json:"backoff,omitempty" doc:"Before the first; each later one waits twice as long"`
}

// Task is work in a container, as somebody defined it.
type Task struct {
	Name controlplane.Name `json:"name"`
	TaskInput
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

func showTask(t controlplane.Task) Task {
	return Task{
		Name: t.Name, Created: t.Created.UTC(), Updated: t.Updated.UTC(), TaskInput: TaskInput{
			Priority: t.Priority, Builtin: (*Builtin)(t.Builtin), Image: t.Image, Command: t.Command, Inputs: t.Inputs, Credentials: t.Credentials,
			Limits: TaskLimits(t.Limits), Deadline: Duration(t.Deadline),
			Retries: TaskRetries{Max: t.Retries.Max, Backoff: Duration(t.Retries.Backoff)},
		},
	}
}

const (
	longestTask    = 24 * time.Hour
	longestBackoff = time.Hour
)

// task is the input as the domain has it, with all that is wrong at once.
func (in TaskInput) task(name controlplane.Name) (controlplane.Task, error) {
	var problems []*huma.ErrorDetail
	switch more := in; {
	case in.Builtin != nil:
		problems = append(problems, in.Builtin.problems("body.builtin")...)
		more.Builtin, more.Priority = nil, ""
		if !reflect.DeepEqual(more, TaskInput{}) {
			problems = append(problems, at("body", "has builtin and something else: a built-in task has a priority alone besides"))
		}
	case in.Image == "":
		problems = append(problems, at("body.image", "is missing: name an image, or what is built in"))
	}
	if strings.ContainsFunc(in.Image, func(r rune) bool { return r <= ' ' || r == 0x7f }) || strings.HasPrefix(in.Image, "-") {
		problems = append(problems, at("body.image", "is no image's name"))
	}
	for i, word := range in.Command {
		if strings.ContainsRune(word, 0) {
			problems = append(problems, at(fmt.Sprintf("body.command[%d]", i), "holds a zero byte"))
		}
	}
	problems = append(problems, inputProblems(in.Inputs)...)
	for i, c := range in.Credentials {
		where := fmt.Sprintf("body.credentials[%d]", i)
		if _, err := controlplane.ParseProvider(string(c.Provider)); err != nil {
			problems = append(problems, at(where+".provider", "%v", err))
		}
		if _, err := controlplane.ParseName(string(c.Name)); err != nil {
			problems = append(problems, at(where+".name", "%v", err))
		}
	}
	problems = append(problems, in.Deadline.problem("body.deadline", longestTask)...)
	problems = append(problems, in.Retries.Backoff.problem("body.retries.backoff", longestBackoff)...)
	if len(problems) > 0 {
		return controlplane.Task{}, refuse(problems...)
	}
	return controlplane.Task{
		Name: name, Priority: in.Priority, TaskSpec: controlplane.TaskSpec{
			Builtin: (*controlplane.Builtin)(in.Builtin), Image: in.Image, Command: in.Command, Inputs: in.Inputs, Credentials: in.Credentials, Limits: controlplane.Limits(in.Limits),
			Deadline: time.Duration(in.Deadline), Retries: controlplane.Retries{Max: in.Retries.Max, Backoff: time.Duration(in.Retries.Backoff)},
		},
	}, nil
}

// inputProblems holds inputs to what an environment can carry (POSIX.1-2024,
// XBD 8.1).
func inputProblems(inputs map[string]string) []*huma.ErrorDetail {
	var problems []*huma.ErrorDetail
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		if name == "" || strings.ContainsAny(name, "=\x00") || len(name) > 200 || strings.ContainsRune(inputs[name], 0) {
			problems = append(problems, at("body.inputs", "%q is no name of a variable, or its value holds a zero byte", name))
		}
	}
	return problems
}

// overrideProblems: whoever may only run a task sets what its author left open,
// and no other variable, such as one that a program's loader reads.
func overrideProblems(inputs, declared map[string]string) []*huma.ErrorDetail {
	problems := inputProblems(inputs)
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		if _, ok := declared[name]; !ok {
			problems = append(problems, at("body.inputs", "the task has no input %q", name))
		}
	}
	return problems
}

// TaskRun is what one run of a task gets besides the task itself.
type TaskRun struct {
	Inputs map[string]string `json:"inputs,omitempty" doc:"In place of those of the task with the same names"`
}

// Started is a run that was started.
type Started struct {
	ID      controlplane.RunID `json:"id"`
	Created bool               `json:"created" doc:"Not so if the key was used before: this is the run of then"`
}

func (a *API) taskRoutes() {
	const one = "/tasks/{name}"
	register(a, operation{
		id: "task.list", method: http.MethodGet, path: "/tasks", summary: "List tasks", scope: controlplane.ScopeRead,
	}, func(ctx context.Context, in *Paging) (*Reply[Page[Task]], error) {
		after, err := in.key("tasks")
		if err != nil {
			return nil, err
		}
		found, err := a.options.Store.ListTasks(ctx, controlplane.Name(after), in.Limit)
		return reply(named("tasks", in.Limit, found, func(t controlplane.Task) controlplane.Name { return t.Name }, showTask), err)
	})
	register(a, operation{
		id: "task.get", method: http.MethodGet, path: one, summary: "Show a task", scope: controlplane.ScopeRead,
	}, func(ctx context.Context, in *ByName) (*Reply[Task], error) {
		found, err := a.options.Store.Task(ctx, in.Name)
		return reply(showTask(found), err)
	})
	register(a, operation{
		id: "task.put", method: http.MethodPut, path: one, summary: "Create a task or replace it", scope: controlplane.ScopeTasks,
	}, func(ctx context.Context, in *struct {
		ByName
		Body TaskInput
	}) (*Reply[Task], error) {
		t, err := in.Body.task(in.Name)
		if err == nil {
			err = a.refersTo(ctx, t)
		}
		if err != nil {
			return nil, err
		}
		stored, err := a.options.Store.PutTask(ctx, t)
		return reply(showTask(stored), err)
	})
	register(a, operation{
		id: "task.delete", method: http.MethodDelete, path: one, summary: "Delete a task that no schedule starts",
		scope: controlplane.ScopeTasks, status: http.StatusNoContent, errors: []int{http.StatusConflict},
	}, func(ctx context.Context, in *ByName) (*nothing, error) {
		return done(a.options.Store.DeleteTask(ctx, in.Name))
	})
	register(a, operation{
		id: "task.run", method: http.MethodPost, path: one + "/runs", summary: "Run a task now",
		scope: controlplane.ScopeDeploy, status: http.StatusAccepted,
	}, a.startTask)
}

// refersTo fails if a task names a project or credentials that are not there.
// They may go later: then its runs fail.
func (a *API) refersTo(ctx context.Context, t controlplane.Task) error {
	var problems []*huma.ErrorDetail
	missing := func(where, format string, what any, err error) error {
		if errors.Is(err, controlplane.ErrNotFound) {
			problems = append(problems, at(where, format, what))
			return nil
		}
		return err
	}
	if t.Builtin != nil {
		_, err := a.options.Store.Project(ctx, t.Builtin.Project)
		if err := missing("body.builtin.project", "there is no project %q: create it first", t.Builtin.Project, err); err != nil {
			return err
		}
	}
	for i, c := range t.Credentials {
		_, err := a.options.Store.Integration(ctx, c.Provider, c.Name)
		if err := missing(fmt.Sprintf("body.credentials[%d]", i), "there is no integration %q: create it first", string(c.Provider)+"/"+string(c.Name), err); err != nil {
			return err
		}
	}
	if len(problems) > 0 {
		return refuse(problems...)
	}
	return nil
}

// named is a page of a list that the store cuts by name.
func named[S, T any](list string, limit int, items []S, name func(S) controlplane.Name, show func(S) T) Page[T] {
	page := Page[T]{Items: make([]T, 0, len(items))}
	for _, i := range items {
		page.Items = append(page.Items, show(i))
	}
	if len(items) == limit {
		page.Next = cursor(list, string(name(items[limit-1])))
	}
	return page
}

func (a *API) startTask(ctx context.Context, in *struct {
	ByName
	Key  string   `header:"Idempotency-Key" maxLength:"200" pattern:"^[!-~]*$" doc:"Two calls with the same one start one run"`
	Body *TaskRun `required:"false"`
}) (*Reply[Started], error) {
	task, err := a.options.Store.Task(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	var given controlplane.TaskInput
	if in.Body != nil && len(in.Body.Inputs) > 0 {
		if problems := overrideProblems(in.Body.Inputs, task.Inputs); len(problems) > 0 {
			return nil, refuse(problems...)
		}
		given.Inputs = in.Body.Inputs
	}
	return a.begin(ctx, task, given, fmt.Sprintf("task/%s", in.Name), in.Key)
}

// begin starts a run of a task, once for each key of a caller.
func (a *API) begin(ctx context.Context, task controlplane.Task, given controlplane.TaskInput, of, key string) (*Reply[Started], error) {
	var project controlplane.Project
	if task.Builtin != nil {
		var err error
		if project, err = a.options.Store.Project(ctx, task.Builtin.Project); err != nil {
			return nil, err
		}
	}
	run, err := task.Run(given, project)
	if err != nil {
		return nil, err
	}
	own := key
	if own == "" {
		own = uuid.NewString()
	}
	// The token is part of it: two callers do not know each other's keys.
	run.Key = fmt.Sprintf("%s/api/%s/%s", of, callerOf(ctx).token.Name, own)
	id, created, err := a.options.Store.Start(ctx, run)
	if err != nil {
		return nil, err
	}
	run.ID = id
	if err := a.options.Starter.Start(ctx, run); err != nil {
		return nil, a.notStarted(ctx, run, key, err)
	}
	return &Reply[Started]{Body: Started{ID: id, Created: created}}, nil
}

// notStarted leaves no run behind that nobody will start: with a key, the
// client comes again for it.
func (a *API) notStarted(ctx context.Context, run controlplane.Run, key string, cause error) error {
	a.log.WarnContext(ctx, "the engine did not take a run", "run", run.ID, "error", cause)
	if key != "" {
		return unavailable("The workflow engine did not take the run. Send the request again with the same Idempotency-Key.", retryAfter)
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	if err := a.options.Store.Cancel(late, run.ID, "the workflow engine did not take it"); err != nil {
		a.log.ErrorContext(ctx, "cancel a run that was not started", "run", run.ID, "error", err)
	}
	return unavailable("The workflow engine did not take the run, and it was cancelled.", retryAfter)
}

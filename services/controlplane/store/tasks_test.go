package store_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"skep/services/controlplane"
)

func TestTasksAndSchedules(t *testing.T) {
	s, _ := newStore(t)
	in := controlplane.Task{Name: "backup", TaskSpec: controlplane.TaskSpec{
		Image: "registry.example.com/backup:1", Command: []string{"backup", "--all"}, Inputs: map[string]string{"TARGET": "s3"},
		Credentials: []controlplane.CredentialName{{Provider: controlplane.Salesforce, Name: "prod"}},
		Limits:      controlplane.Limits{CPU: 1.5, Memory: 1 << 30, PIDs: 100}, Deadline: time.Hour,
		Retries: controlplane.Retries{Max: 3, Backoff: time.Minute},
	}}
	put, err := s.PutTask(t.Context(), in)
	if err != nil || put.Priority != controlplane.Normal || !reflect.DeepEqual(put.TaskSpec, in.TaskSpec) {
		t.Fatalf("PutTask = %+v, %v", put, err)
	}
	if got, err := s.Task(t.Context(), "backup"); err != nil || !reflect.DeepEqual(got, put) {
		t.Errorf("Task = %+v, %v", got, err)
	}
	if _, err := s.PutTask(t.Context(), controlplane.Task{Name: "other", Priority: "high"}); !errors.Is(err, controlplane.ErrInvalid) {
		t.Errorf("a priority that is none: %v", err)
	}
	if all, err := s.ListTasks(t.Context(), "", 0); err != nil || len(all) != 1 {
		t.Errorf("ListTasks = %+v, %v", all, err)
	}
	if rest, err := s.ListTasks(t.Context(), "backup", 0); err != nil || len(rest) != 0 {
		t.Errorf("the next page = %+v, %v", rest, err)
	}

	due := time.Now().Add(-time.Minute).Truncate(time.Microsecond)
	for _, sched := range []controlplane.Schedule{
		{Name: "nightly", Task: "backup", Cron: "0 3 * * *", Zone: "Europe/Berlin", Next: due},
		{Name: "paused", Task: "backup", Cron: "0 3 * * *", Paused: true, Next: due},
		{Name: "later", Task: "backup", Next: time.Now().Add(time.Hour)},
		{Name: "over", Task: "backup"},
	} {
		if _, err := s.PutSchedule(t.Context(), sched); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.PutSchedule(t.Context(), controlplane.Schedule{Name: "x", Task: "nothing"}); !errors.Is(err, controlplane.ErrNotFound) || !strings.Contains(err.Error(), "the task that it names") {
		t.Errorf("a schedule of no task: %v", err)
	}
	found, err := s.DueSchedules(t.Context(), 0)
	if err != nil || len(found) != 1 || found[0].Name != "nightly" || !found[0].Next.Equal(due) || found[0].Overlap != controlplane.OverlapSkip {
		t.Fatalf("DueSchedules = %+v, %v", found, err)
	}
	var moved atomic.Int64
	next := due.Add(24 * time.Hour)
	parallel(4, func(int) {
		if ok, err := s.AdvanceSchedule(t.Context(), "nightly", due, next); err != nil {
			t.Error(err)
		} else if ok {
			moved.Add(1)
		}
	})
	if got, err := s.Schedule(t.Context(), "nightly"); err != nil || moved.Load() != 1 || !got.Next.Equal(next) || !got.Last.Equal(due) {
		t.Errorf("%d of 4 servers advanced it: %+v, %v", moved.Load(), got, err)
	}
	if ok, err := s.AdvanceSchedule(t.Context(), "nightly", next, time.Time{}); err != nil || !ok {
		t.Errorf("its end: %v, %v", ok, err)
	}
	if err := s.DeleteTask(t.Context(), "backup"); !errors.Is(err, controlplane.ErrConflict) || !strings.Contains(err.Error(), "a schedule refers to it") {
		t.Errorf("a task that schedules start: %v", err)
	}
	all, err := s.ListSchedules(t.Context(), "", 0)
	if err != nil || len(all) != 4 {
		t.Errorf("ListSchedules = %+v, %v", all, err)
	}
	for _, sched := range all {
		err = errors.Join(err, s.DeleteSchedule(t.Context(), sched.Name))
	}
	if err := errors.Join(err, s.DeleteTask(t.Context(), "backup")); err != nil {
		t.Error(err)
	}
}

func TestPreviews(t *testing.T) {
	s, _ := newStore(t)
	if _, err := s.PutIntegration(t.Context(), controlplane.Integration{Provider: controlplane.GitHub, Name: "main"}, nil); err != nil {
		t.Fatal(err)
	}
	project := controlplane.Project{
		Name: "home", Integration: "main", Provider: controlplane.GitHub, Repository: "ada/home", Cluster: "homelab", Deploy: controlplane.DeployNever,
	}
	if _, err := s.PutProject(t.Context(), project); err != nil {
		t.Fatal(err)
	}
	in := controlplane.Preview{Project: "home", Number: 12, Stacks: []string{"app"}, Hosts: []string{"pr-12-app.example.com"}, Expires: time.Now().Add(time.Hour)}
	put, err := s.PutPreview(t.Context(), in)
	if err != nil || !slices.Equal(put.Hosts, in.Hosts) {
		t.Fatalf("PutPreview = %+v, %v", put, err)
	}
	if expired, err := s.ExpiredPreviews(t.Context()); err != nil || len(expired) != 0 {
		t.Errorf("ExpiredPreviews = %+v, %v", expired, err)
	}
	in.Expires = time.Now().Add(-time.Minute)
	if again, err := s.PutPreview(t.Context(), in); err != nil || again.ID != put.ID {
		t.Errorf("put again: %+v, %v", again, err)
	}
	if expired, err := s.ExpiredPreviews(t.Context()); err != nil || len(expired) != 1 {
		t.Errorf("ExpiredPreviews = %+v, %v", expired, err)
	}
	for name, bad := range map[string]controlplane.Preview{
		"no number":  {Project: "home", Expires: in.Expires},
		"no end":     {Project: "home", Number: 1},
		"no project": {Number: 1, Expires: in.Expires},
	} {
		if _, err := s.PutPreview(t.Context(), bad); !errors.Is(err, controlplane.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.DeleteProject(t.Context(), "home"); !errors.Is(err, controlplane.ErrConflict) {
		t.Errorf("a project with previews: %v", err)
	}
	if list, err := s.ListPreviews(t.Context(), "home"); err != nil || len(list) != 1 {
		t.Errorf("ListPreviews = %+v, %v", list, err)
	}
	if err := s.DeletePreview(t.Context(), "home", 12); err != nil {
		t.Error(err)
	}
	if _, err := s.Preview(t.Context(), "home", 12); !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("after its deletion: %v", err)
	}
}

package schedule_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"skep/internal/postgrestest"
	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/schedule"
	"skep/services/controlplane/store"
)

var (
	_ schedule.Store = (*store.Store)(nil)

	shared postgrestest.Shared
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := shared.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop PostgreSQL:", err)
		code = 1
	}
	os.Exit(code)
}

// handed counts what goes to the engine.
type handed struct {
	mu   sync.Mutex
	runs map[controlplane.RunID]int
}

func (h *handed) Start(_ context.Context, r controlplane.Run) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs[r.ID]++
	return nil
}

// Servers that share a database start what is due once, and a run that goes on
// is what the policy says.
func TestSchedulerOnPostgreSQL(t *testing.T) {
	dsn := shared.Server(t).Database(t)
	if err := store.Migrate(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	keys := store.Keys{Current: "k1", All: map[store.KeyID]secrets.Value{"k1": secrets.NewValue([]byte(strings.Repeat("0f", 32)))}}
	db, err := store.Open(t.Context(), dsn, keys)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.Log = slog.New(slog.DiscardHandler)
	if _, err := db.PutTask(t.Context(), controlplane.Task{Name: "backup", TaskSpec: controlplane.TaskSpec{Image: "backup:1"}}); err != nil {
		t.Fatal(err)
	}
	var first []controlplane.RunID
	for turn := range 2 {
		due := time.Now().Add(time.Duration(turn-2) * time.Minute).Truncate(time.Microsecond)
		for _, policy := range []controlplane.OverlapPolicy{controlplane.OverlapSkip, controlplane.OverlapQueue, controlplane.OverlapReplace} {
			if _, err := db.PutSchedule(t.Context(), controlplane.Schedule{
				Name: controlplane.Name(policy), Task: "backup", Cron: "0 3 * * *", Zone: "Europe/Berlin", Overlap: policy, Next: due,
			}); err != nil {
				t.Fatal(err)
			}
		}
		engine := &handed{runs: map[controlplane.RunID]int{}}
		var servers sync.WaitGroup
		for range 4 {
			servers.Go(func() {
				s := schedule.Scheduler{Store: db, Starter: engine, Log: slog.New(slog.DiscardHandler)}
				if err := s.Tick(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		servers.Wait()
		if left, err := db.DueSchedules(t.Context(), 10); err != nil || len(left) != 0 {
			t.Errorf("still due: %+v, %v", left, err)
		}
		runs, err := db.Unfinished(t.Context(), "backup")
		if err != nil {
			t.Fatal(err)
		}
		if turn == 0 {
			if len(runs) != 3 || len(engine.runs) != 3 {
				t.Errorf("%d runs, %d of them handed on", len(runs), len(engine.runs))
			}
			for _, r := range runs {
				first = append(first, r.ID)
			}
			continue
		}
		if len(runs) != 4 || len(engine.runs) != 2 { // the skipping one goes on, the queueing one has two, the replacing one a new one
			t.Errorf("the second time: %d runs, %d of them handed on", len(runs), len(engine.runs))
		}
		var ended []string
		for _, id := range first {
			r, err := db.Run(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if r.State.Over() {
				ended = append(ended, strings.Split(r.Key, "/")[1]+" "+string(r.State))
			}
		}
		if got := strings.Join(ended, ", "); got != "replace cancelled" {
			t.Errorf("ended: %s", got)
		}
	}
}

// A schedule starts what is built in as well, in its project's queue. One whose
// project is gone skips its time.
func TestBuiltinOnPostgreSQL(t *testing.T) {
	dsn := shared.Server(t).Database(t)
	if err := store.Migrate(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	keys := store.Keys{Current: "k1", All: map[store.KeyID]secrets.Value{"k1": secrets.NewValue([]byte(strings.Repeat("0f", 32)))}}
	db, err := store.Open(t.Context(), dsn, keys)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.Log = slog.New(slog.DiscardHandler)
	if _, err := db.PutIntegration(t.Context(), controlplane.Integration{Provider: controlplane.GitHub, Name: "main"}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := db.PutProject(t.Context(), controlplane.Project{
		Name: "home", Provider: controlplane.GitHub, Integration: "main", Repository: "a/b", Cluster: "lab", Deploy: controlplane.DeployAlways,
	}); err != nil {
		t.Fatal(err)
	}
	due := time.Now().Add(-time.Minute).Truncate(time.Microsecond)
	for task, project := range map[controlplane.Name]controlplane.Name{"rotation": "home", "orphan": "gone"} {
		spec := controlplane.TaskSpec{Builtin: &controlplane.Builtin{Kind: controlplane.RunRotate, Project: project}}
		if _, err := db.PutTask(t.Context(), controlplane.Task{Name: task, TaskSpec: spec}); err != nil {
			t.Fatal(err)
		}
		if _, err := db.PutSchedule(t.Context(), controlplane.Schedule{Name: task, Task: task, Cron: "0 3 * * *", Next: due}); err != nil {
			t.Fatal(err)
		}
	}
	engine := &handed{runs: map[controlplane.RunID]int{}}
	s := schedule.Scheduler{Store: db, Starter: engine, Log: slog.New(slog.DiscardHandler)}
	for range 2 {
		if err := s.Tick(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := db.DueSchedules(t.Context(), 10); err != nil || len(left) != 0 || len(engine.runs) != 1 {
		t.Errorf("still due: %+v, %v; %d runs", left, err, len(engine.runs))
	}
	runs, err := db.Unfinished(t.Context(), "rotation")
	if err != nil || len(runs) != 1 || runs[0].Kind != controlplane.RunRotate || runs[0].Project != "home" || runs[0].Queue != "lab/default:" {
		t.Errorf("the runs are %+v, %v", runs, err)
	}
}

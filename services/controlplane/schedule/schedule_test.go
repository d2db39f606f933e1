package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"skep/services/controlplane"
)

func TestNext(t *testing.T) {
	for _, c := range []struct{ cron, zone, after, want string }{
		{"0 3 * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T03:00:00Z 2026-01-02T03:00:00Z"},
		{"0 3 * * *", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z 2026-01-02T02:00:00Z"},
		{"0 3 * * 1", "Asia/Kolkata", "2026-01-01T00:00:00Z", "2026-01-04T21:30:00Z 2026-01-11T21:30:00Z"},
		{"0 0 29 2 *", "", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
		// Berlin jumps from 2:00 to 3:00: what is due in between is due then, once.
		{"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z 2026-03-30T00:30:00Z"},
		{"30 2 * * *", "Europe/Berlin", "2026-03-29T00:59:00Z", "2026-03-29T01:00:00Z 2026-03-30T00:30:00Z"},
		{"0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z 2026-03-30T00:00:00Z"},
		{"0 3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z 2026-03-30T01:00:00Z"},
		// It goes from 3:00 back to 2:00: what is due in between is due the first time.
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z 2026-10-26T01:30:00Z"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-25T00:45:00Z", "2026-10-26T01:30:00Z"},
		{"30 2 * * *", "Europe/Berlin", "2026-10-25T01:15:00Z", "2026-10-26T01:30:00Z"},
		{"0 3 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T02:00:00Z"},
		// Every hour is every hour that passes.
		{"30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z 2026-10-25T01:30:00Z 2026-10-25T02:30:00Z"},
		{"30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T00:30:00Z 2026-03-29T01:30:00Z"},
		// Santiago has no midnight that day; Lord Howe moves by half an hour.
		{"0 0 * * *", "America/Santiago", "2026-09-05T12:00:00Z", "2026-09-06T04:00:00Z 2026-09-07T03:00:00Z"},
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", "2026-10-03T15:30:00Z 2026-10-04T15:15:00Z"},
		{"45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", "2026-04-04T14:45:00Z 2026-04-05T15:15:00Z"},
	} {
		t.Run(c.cron+" "+c.zone+" "+c.after, func(t *testing.T) {
			times, err := Parse(c.cron, c.zone)
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(time.RFC3339, c.after)
			if err != nil {
				t.Fatal(err)
			}
			for want := range strings.FieldsSeq(c.want) {
				at = times.Next(at)
				if got := at.UTC().Format(time.RFC3339); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range [][2]string{
		{"", "UTC"}, {"* * * *", "UTC"}, {"* * * * * *", "UTC"}, {"60 * * * *", "UTC"}, {"@daily", "UTC"}, {"@every 1s", "UTC"},
		{"TZ=UTC * * * * *", "UTC"}, {"CRON_TZ=UTC 1 1 1 1 1", ""}, {"0 0 31 2 *", "UTC"}, {"* * * * *", "Europe/Atlantis"}, {"* * * * *", "Local"},
		{"* * * * *", "../../etc/passwd"},
	} {
		if _, err := Parse(c[0], c[1]); !errors.Is(err, controlplane.ErrInvalid) {
			t.Errorf("%q in %q: %v", c[0], c[1], err)
		}
	}
}

// fake keeps schedules and runs as the store does.
type fake struct {
	mu        sync.Mutex
	schedules map[controlplane.Name]controlplane.Schedule
	runs      []controlplane.Run
	handed    []controlplane.RunID // to the engine
	fails     map[string]error     // by method
}

func (f *fake) enter(method string) (func(), error) {
	f.mu.Lock()
	return f.mu.Unlock, f.fails[method]
}

func (f *fake) DueSchedules(context.Context, int) ([]controlplane.Schedule, error) {
	leave, err := f.enter("DueSchedules")
	defer leave()
	var due []controlplane.Schedule
	for _, s := range f.schedules {
		if !s.Paused && !s.Next.IsZero() && !s.Next.After(time.Now()) {
			due = append(due, s)
		}
	}
	return due, err
}

func (f *fake) Schedule(_ context.Context, name controlplane.Name) (controlplane.Schedule, error) {
	leave, err := f.enter("Schedule")
	defer leave()
	return f.schedules[name], err
}

func (f *fake) AdvanceSchedule(_ context.Context, name controlplane.Name, was, next time.Time) (bool, error) {
	leave, err := f.enter("AdvanceSchedule")
	defer leave()
	s := f.schedules[name]
	if err != nil || !s.Next.Equal(was) {
		return false, err
	}
	s.Last, s.Next = s.Next, next
	f.schedules[name] = s
	return true, nil
}

func (f *fake) Project(_ context.Context, name controlplane.Name) (controlplane.Project, error) {
	leave, err := f.enter("Project")
	defer leave()
	return controlplane.Project{Name: name, Cluster: "lab"}, err
}

func (f *fake) Task(_ context.Context, name controlplane.Name) (controlplane.Task, error) {
	leave, err := f.enter("Task")
	defer leave()
	return controlplane.Task{Name: name, Priority: controlplane.Batch}, err
}

func (f *fake) Start(_ context.Context, r controlplane.Run) (controlplane.RunID, bool, error) {
	leave, err := f.enter("Start")
	defer leave()
	if err != nil {
		return "", false, err
	}
	for _, there := range f.runs {
		if there.Key == r.Key {
			return there.ID, false, nil
		}
	}
	r.ID, r.State, r.Created = controlplane.RunID(fmt.Sprint(len(f.runs)+1)), controlplane.RunRunning, time.Now()
	f.runs = append(f.runs, r)
	return r.ID, true, nil
}

func (f *fake) Unfinished(_ context.Context, task controlplane.Name) ([]controlplane.Run, error) {
	leave, err := f.enter("Unfinished")
	defer leave()
	var found []controlplane.Run
	for _, r := range f.runs {
		if r.Task == task && !r.State.Over() {
			found = append(found, r)
		}
	}
	return found, err
}

func (f *fake) Cancel(_ context.Context, id controlplane.RunID, _ string) error {
	leave, err := f.enter("Cancel")
	defer leave()
	f.end(id, controlplane.RunCancelled)
	return err
}

func (f *fake) end(id controlplane.RunID, state controlplane.RunState) {
	for i := range f.runs {
		if f.runs[i].ID == id {
			f.runs[i].State = state
		}
	}
}

// engine is the fake's other side.
type engine struct{ *fake }

func (e engine) Start(_ context.Context, r controlplane.Run) error {
	leave, err := e.enter("engine")
	defer leave()
	if err == nil {
		e.handed = append(e.handed, r.ID)
	}
	return err
}

func newFake(s ...controlplane.Schedule) *fake {
	f := &fake{schedules: map[controlplane.Name]controlplane.Schedule{}, fails: map[string]error{}}
	for _, s := range s {
		f.schedules[s.Name] = s
	}
	return f
}

func (f *fake) scheduler() *Scheduler {
	return &Scheduler{Store: f, Starter: engine{f}, Log: slog.New(slog.DiscardHandler)}
}

// during runs schedulers for a while.
func (f *fake) during(t *testing.T, servers int, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var all sync.WaitGroup
	for range servers {
		all.Go(func() {
			if err := f.scheduler().Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// started is when runs were started, and what for.
func (f *fake) started() []string {
	var out []string
	for _, r := range f.runs {
		out = append(out, r.Created.UTC().Format("02 15:04:05")+" "+string(r.State))
	}
	return out
}

func check(t *testing.T, f *fake, want ...string) {
	t.Helper()
	if got := f.started(); !slices.Equal(got, want) {
		t.Errorf("started %q, want %q", got, want)
	}
}

// In synctest time begins at midnight UTC, 2000-01-01, and passes at once.
var begin = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return begin.Add(d) }

func TestSchedulerOnceAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(controlplane.Schedule{Name: "once", Task: "backup", Next: at(time.Hour)})
		f.during(t, 1, 3*time.Hour)
		check(t, f, "01 01:00:00 running")
		r := f.runs[0]
		var in controlplane.TaskInput
		if err := json.Unmarshal(r.Input, &in); err != nil || in.Schedule != "once" || !in.Due.Equal(at(time.Hour)) {
			t.Errorf("input %s (%v)", r.Input, err)
		}
		if r.Kind != controlplane.RunTask || r.Task != "backup" || r.Priority != controlplane.Batch || !slices.Contains(f.handed, r.ID) {
			t.Errorf("run %+v, handed %v", r, f.handed)
		}
		if s := f.schedules["once"]; !s.Next.IsZero() {
			t.Errorf("it is due again at %v", s.Next)
		}
	})
}

func TestSchedulerOverlap(t *testing.T) {
	for policy, want := range map[controlplane.OverlapPolicy][]string{
		controlplane.OverlapSkip:    {"01 00:01:00 running"},
		controlplane.OverlapQueue:   {"01 00:01:00 running", "01 00:02:00 running", "01 00:03:00 running"},
		controlplane.OverlapReplace: {"01 00:01:00 cancelled", "01 00:02:00 cancelled", "01 00:03:00 running"},
	} {
		t.Run(string(policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(controlplane.Schedule{Name: "often", Task: "backup", Cron: "* * * * *", Overlap: policy, Next: at(time.Minute)})
				f.runs = []controlplane.Run{{ID: "other", Key: "schedule/often-2/" + begin.Format(time.RFC3339Nano), Task: "backup", State: controlplane.RunRunning}}
				f.during(t, 1, 3*time.Minute+30*time.Second)
				if f.runs[0].State != controlplane.RunRunning {
					t.Error("another schedule's run was ended")
				}
				f.runs = f.runs[1:]
				check(t, f, want...)
				if queue := f.runs[0].Queue; (queue == "schedule/often") != (policy != controlplane.OverlapSkip) {
					t.Errorf("queue %q", queue)
				}
				if policy == controlplane.OverlapSkip {
					f.end(f.runs[0].ID, controlplane.RunSucceeded)
					f.during(t, 1, time.Minute)
					check(t, f, "01 00:01:00 succeeded", "01 00:04:00 running")
				}
			})
		})
	}
}

// A night without a server is made up for once, and the next time is a future
// one.
func TestSchedulerOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(controlplane.Schedule{Name: "hourly", Task: "backup", Cron: "0 * * * *", Overlap: controlplane.OverlapQueue, Next: at(time.Hour)})
		time.Sleep(10*time.Hour + 20*time.Minute)
		f.during(t, 1, time.Hour)
		check(t, f, "01 10:20:00 running", "01 11:00:00 running")
	})
}

// Servers that share schedules start each run once.
func TestSchedulerManyServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(
			controlplane.Schedule{Name: "often", Task: "backup", Cron: "* * * * *", Overlap: controlplane.OverlapQueue, Next: at(time.Minute)},
			controlplane.Schedule{Name: "paused", Task: "backup", Cron: "* * * * *", Paused: true, Next: at(time.Minute)},
		)
		f.during(t, 5, 3*time.Minute+time.Second)
		check(t, f, "01 00:01:00 running", "01 00:02:00 running", "01 00:03:00 running")
	})
}

// Whatever fails, or whoever dies, between two steps: the run is started once,
// and handed on.
func TestSchedulerFaults(t *testing.T) {
	for _, step := range []string{"DueSchedules", "Schedule", "Task", "Unfinished", "Start", "engine", "AdvanceSchedule"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(controlplane.Schedule{Name: "daily", Task: "backup", Cron: "0 1 * * *", Overlap: controlplane.OverlapSkip, Next: at(time.Hour)})
				f.fails[step] = errors.New("a planned fault")
				time.Sleep(time.Hour)
				if err := f.scheduler().Tick(t.Context()); err == nil || !strings.Contains(err.Error(), "a planned fault") {
					t.Errorf("Tick = %v", err)
				}
				delete(f.fails, step)
				f.during(t, 2, time.Minute)
				if len(f.runs) != 1 || !slices.Contains(f.handed, f.runs[0].ID) {
					t.Errorf("runs %+v, handed %v", f.runs, f.handed)
				}
				if next := f.schedules["daily"].Next; !next.Equal(at(25 * time.Hour)) {
					t.Errorf("next %v", next)
				}
			})
		})
	}
}

// A schedule that cannot be read holds up no other.
func TestSchedulerBadSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(
			controlplane.Schedule{Name: "bad", Task: "backup", Cron: "nonsense", Next: at(time.Minute)},
			controlplane.Schedule{Name: "good", Task: "backup", Next: at(time.Minute)},
		)
		f.during(t, 1, 2*time.Minute)
		check(t, f, "01 00:01:00 running")
	})
}

// Clocks that change, through the whole of it: Berlin's last nights of March
// and October.
func TestSchedulerDST(t *testing.T) {
	for name, c := range map[string]struct {
		day  time.Time
		want []string
	}{
		"forward": {time.Date(2000, 3, 25, 12, 0, 0, 0, time.UTC), []string{"26 01:00:00 running", "27 00:30:00 running"}},
		"back":    {time.Date(2000, 10, 28, 12, 0, 0, 0, time.UTC), []string{"29 00:30:00 running", "30 01:30:00 running"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(c.day))
				times, err := Parse("30 2 * * *", "Europe/Berlin")
				if err != nil {
					t.Fatal(err)
				}
				f := newFake(controlplane.Schedule{
					Name: "nightly", Task: "backup", Cron: "30 2 * * *", Zone: "Europe/Berlin", Overlap: controlplane.OverlapQueue, Next: times.Next(time.Now()),
				})
				f.during(t, 2, 48*time.Hour)
				check(t, f, c.want...)
			})
		})
	}
}

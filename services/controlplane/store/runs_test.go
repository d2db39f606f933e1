package store_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

func TestStartOnce(t *testing.T) {
	s, dsn := newStore(t)
	var created [16]bool
	var got [16]controlplane.RunID
	parallel(len(got), func(i int) {
		var err error
		got[i], created[i], err = s.Start(t.Context(), controlplane.Run{Key: "delivery/1", Kind: controlplane.RunPlan, Input: []byte(`{"a": 1}`)})
		if err != nil {
			t.Error(err)
		}
	})
	first := 0
	for i := range got {
		if created[i] {
			first++
		}
		if got[i] != got[0] {
			t.Errorf("one key has the runs %v", got)
		}
	}
	if n := query[int64](t, dsn, "SELECT count(*) FROM run"); first != 1 || n[0] != 1 {
		t.Errorf("%d were created and %d are stored, want 1", first, n[0])
	}
	r, err := s.Run(t.Context(), got[0])
	if err != nil || r.State != controlplane.RunQueued || r.Priority != controlplane.Normal || string(r.Input) != `{"a": 1}` {
		t.Errorf("Run = %+v, %v", r, err)
	}
	for name, bad := range map[string]controlplane.Run{
		"no key":   {Kind: controlplane.RunPlan},
		"no kind":  {Key: "k"},
		"input":    {Key: "k", Kind: controlplane.RunPlan, Input: []byte("{")},
		"zero":     {Key: "k", Kind: controlplane.RunPlan, Input: []byte(`"\u0000"`)},
		"id":       {Key: "k", Kind: controlplane.RunPlan, ID: "1"},
		"priority": {Key: "k", Kind: controlplane.RunPlan, Priority: "high"},
		"large":    {Key: "k", Kind: controlplane.RunPlan, Input: []byte(`"` + strings.Repeat("x", store.MaxJSON) + `"`)},
	} {
		if _, _, err := s.Start(t.Context(), bad); !errors.Is(err, controlplane.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRunStates(t *testing.T) {
	s, _ := newStore(t)
	a, b := newRun(t, s, "a", "homelab/main"), newRun(t, s, "b", "homelab/main")
	free := newRun(t, s, "c", "")
	for range 2 { // the engine delivers at least once
		if err := s.Begin(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Begin(t.Context(), free); err != nil {
		t.Error(err)
	}
	if err := s.Begin(t.Context(), b); !errors.Is(err, controlplane.ErrBusy) {
		t.Errorf("two of one queue: %v", err)
	}
	for range 2 {
		if err := s.Finish(t.Context(), a, controlplane.RunFailed, []byte(`[1]`), "no\x00"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Begin(t.Context(), b); err != nil {
		t.Error(err)
	}
	if err := s.Cancel(t.Context(), b, "by ada"); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"begin what is over":       s.Begin(t.Context(), a),
		"finish what is cancelled": s.Finish(t.Context(), b, controlplane.RunSucceeded, nil, ""),
		"cancel what has failed":   s.Cancel(t.Context(), a, ""),
	} {
		if !errors.Is(err, controlplane.ErrOver) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Finish(t.Context(), free, controlplane.RunRunning, nil, ""); !errors.Is(err, controlplane.ErrInvalid) {
		t.Errorf("finish as running: %v", err)
	}
	nobody := controlplane.RunID("00000000-0000-0000-0000-000000000000")
	if err := s.Begin(t.Context(), nobody); !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("begin nothing: %v", err)
	}
	r, err := s.Run(t.Context(), a)
	if err != nil || r.State != controlplane.RunFailed || r.Started.IsZero() || r.Ended.IsZero() || string(r.Output) != "[1]" || r.Error != "no\uFFFD" {
		t.Errorf("Run = %+v, %v", r, err)
	}

	runs, next, err := s.ListRuns(t.Context(), store.RunFilter{}, store.Page{Limit: 2})
	if err != nil || len(runs) != 2 || runs[0].ID != free || next == 0 {
		t.Fatalf("ListRuns = %+v, next %d, %v", runs, next, err)
	}
	rest, next, err := s.ListRuns(t.Context(), store.RunFilter{}, store.Page{Before: next, Limit: 2})
	if err != nil || len(rest) != 1 || rest[0].ID != a || next != 0 {
		t.Errorf("the next page = %+v, next %d, %v", rest, next, err)
	}
	failed, _, err := s.ListRuns(t.Context(), store.RunFilter{State: controlplane.RunFailed}, store.Page{})
	if err != nil || len(failed) != 1 || failed[0].ID != a {
		t.Errorf("those that failed = %+v, %v", failed, err)
	}
	if n, err := s.PruneRuns(t.Context(), time.Now().Add(time.Hour)); n != 2 || err != nil {
		t.Errorf("PruneRuns = %d, %v; want the open one to stay", n, err)
	}
}

// startFor starts a run of a delivery's.
func startFor(t *testing.T, s *store.Store, r controlplane.Run) controlplane.RunID {
	t.Helper()
	r.Kind = cmp.Or(r.Kind, controlplane.RunDeploy)
	id, created, err := s.Start(t.Context(), r)
	if err != nil || !created {
		t.Fatalf("Start = created %v, %v", created, err)
	}
	return id
}

func wantStates(t *testing.T, s *store.Store, want map[controlplane.RunID]controlplane.RunState) {
	t.Helper()
	for id, want := range want {
		if r, err := s.Run(t.Context(), id); err != nil || r.State != want {
			t.Errorf("run %s is %s, %v; want %s", r.Key, r.State, err, want)
		}
	}
}

func TestSupersede(t *testing.T) {
	s, _ := newStore(t)
	running, waiting := newRun(t, s, "1", "homelab/main"), newRun(t, s, "2", "homelab/main")
	elsewhere, ended := newRun(t, s, "3", "homelab/next"), newRun(t, s, "4", "homelab/main")
	if err := s.Begin(t.Context(), running); err != nil {
		t.Fatal(err)
	}
	if err := s.Cancel(t.Context(), ended, ""); err != nil {
		t.Fatal(err)
	}
	other := startFor(t, s, controlplane.Run{Key: "other", Queue: "homelab/main", Project: "other"})
	newest := startFor(t, s, controlplane.Run{Key: "5", Queue: "homelab/main", Supersedes: true})
	later := newRun(t, s, "6", "homelab/main")
	wantStates(t, s, map[controlplane.RunID]controlplane.RunState{
		running: controlplane.RunSuperseded, waiting: controlplane.RunSuperseded, elsewhere: controlplane.RunQueued, other: controlplane.RunQueued,
		ended: controlplane.RunCancelled, newest: controlplane.RunQueued, later: controlplane.RunQueued,
	})
	if r, err := s.Run(t.Context(), waiting); err != nil || !strings.Contains(r.Error, string(newest)) {
		t.Errorf("it does not say what took its place: %q, %v", r.Error, err)
	}
	free := newRun(t, s, "7", "")
	startFor(t, s, controlplane.Run{Key: "8", Supersedes: true})
	wantStates(t, s, map[controlplane.RunID]controlplane.RunState{free: controlplane.RunQueued})
}

// A run takes the place of what it stands for, whichever is stored first: a
// plan takes no deploy's.
func TestSupersedeByKind(t *testing.T) {
	s, _ := newStore(t)
	looks := []controlplane.RunKind{controlplane.RunCheck, controlplane.RunPlan}
	for newer, older := range map[controlplane.RunKind][]controlplane.RunKind{
		controlplane.RunCheck:   looks,
		controlplane.RunPlan:    looks,
		controlplane.RunDeploy:  append(looks, controlplane.RunDeploy),
		controlplane.RunRotate:  append(looks, controlplane.RunRotate),
		controlplane.RunPreview: append(looks, controlplane.RunPreview, controlplane.RunDestroy),
		controlplane.RunDestroy: append(looks, controlplane.RunPreview, controlplane.RunDestroy),
	} {
		for _, kind := range append(looks, controlplane.RunDeploy, controlplane.RunRotate, controlplane.RunPreview, controlplane.RunDestroy) {
			want := controlplane.RunQueued
			if slices.Contains(older, kind) {
				want = controlplane.RunSuperseded
			}
			for _, order := range [][]int64{{1, 2}, {2, 1}} {
				got := map[controlplane.RunID]controlplane.RunState{}
				queue := fmt.Sprint(newer, kind, order)
				for _, delivery := range order {
					run, state := controlplane.Run{Kind: kind, Queue: queue, Delivery: delivery, Supersedes: true}, want
					if delivery == 2 {
						run.Kind, state = newer, controlplane.RunQueued
					}
					run.Key = fmt.Sprint(queue, delivery)
					got[startFor(t, s, run)] = state
				}
				wantStates(t, s, got)
			}
		}
	}
}

// The order of a queue is that of the deliveries, in whichever order their runs
// come in.
func TestOrder(t *testing.T) {
	s, dsn := newStore(t)
	queues := openQueues(t, dsn)
	line := func(key string, delivery int64, supersedes bool) controlplane.RunID {
		return startFor(t, s, controlplane.Run{Key: key, Project: "home", Queue: "homelab/main", Delivery: delivery, Supersedes: supersedes})
	}
	first := func(own, want controlplane.RunID, running bool) {
		t.Helper()
		got, err := queues.First(t.Context(), own)
		if err != nil || got.ID != want || (got.State == controlplane.RunRunning) != running {
			t.Errorf("First = %+v, %v; want %s, running %v", got, err, want, running)
		}
	}
	second, third := line("second", 8, true), line("third", 9, false)
	one := line("first", 7, false)
	for _, id := range []controlplane.RunID{one, second, third} {
		first(id, one, false)
	}
	if err := s.Begin(t.Context(), second); !errors.Is(err, controlplane.ErrBusy) {
		t.Errorf("the second began before the first: %v", err)
	}
	if err := s.Begin(t.Context(), one); err != nil {
		t.Fatal(err)
	}

	// What was begun is ended before anything else.
	zero := line("zero", 5, false)
	first(zero, one, true)
	first(third, one, true)
	if err := s.Begin(t.Context(), zero); !errors.Is(err, controlplane.ErrBusy) {
		t.Errorf("two of one queue: %v", err)
	}
	if err := errors.Join(s.Begin(t.Context(), one), s.Finish(t.Context(), one, controlplane.RunSucceeded, nil, "")); err != nil {
		t.Error(err)
	}
	first(third, zero, false)
	first(one, one, false)

	late := line("late", 4, true)
	wantStates(t, s, map[controlplane.RunID]controlplane.RunState{
		late: controlplane.RunSuperseded, zero: controlplane.RunQueued, second: controlplane.RunQueued, third: controlplane.RunQueued,
	})
	if r, err := s.Run(t.Context(), late); err != nil || !strings.Contains(r.Error, string(second)) {
		t.Errorf("it does not say what took its place: %q, %v", r.Error, err)
	}
	for _, id := range []controlplane.RunID{zero, second, third} {
		first(third, id, false)
		if err := errors.Join(s.Begin(t.Context(), id), s.Finish(t.Context(), id, controlplane.RunSucceeded, nil, "")); err != nil {
			t.Error(err)
		}
	}

	// A run that no delivery asked for comes after all that there are.
	source := newSource(t, s, "main")
	d, _, err := s.Add(t.Context(), controlplane.Delivery{Source: source, Delivery: "d"})
	if err != nil {
		t.Fatal(err)
	}
	asked := line("asked", 0, false)
	if r, err := s.Run(t.Context(), asked); err != nil || r.Delivery != d {
		t.Errorf("Run = %+v, %v; want it to follow delivery %d", r, err, d)
	}
}

func TestRunEvents(t *testing.T) {
	s, _ := newStore(t)
	id, _, err := s.Start(t.Context(), controlplane.Run{Key: "k", Kind: controlplane.RunDeploy, Project: "home"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Begin(t.Context(), id), s.Begin(t.Context(), id), s.Finish(t.Context(), id, controlplane.RunSucceeded, nil, "")); err != nil {
		t.Fatal(err)
	}
	shown(t, s, 6)
	for _, topic := range []string{"run/" + string(id), "project/home"} {
		events, err := s.Since(t.Context(), []string{topic}, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		var types []string
		for _, e := range events {
			types = append(types, e.Type)
		}
		if want := []string{"run.queued", "run.started", "run.ended"}; !slices.Equal(types, want) {
			t.Errorf("%s had %v, want %v", topic, types, want)
		}
		if last := string(events[len(events)-1].Data); !strings.Contains(last, `"succeeded"`) || !strings.Contains(last, string(id)) {
			t.Errorf("the last event says %s", last)
		}
	}
}

// A run that nobody works on waits, also one that was begun.
func TestWaitingRuns(t *testing.T) {
	s, _ := newStore(t)
	soon := time.Now().Add(time.Hour) // clocks differ
	queued, begun := newRun(t, s, "queued", "homelab/main"), newRun(t, s, "begun", "")
	held, over := newRun(t, s, "held", ""), newRun(t, s, "over", "")
	if err := errors.Join(s.Begin(t.Context(), begun), s.Begin(t.Context(), held), s.Finish(t.Context(), over, controlplane.RunFailed, nil, "")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Once(t.Context(), begun, "done", func(context.Context) ([]byte, error) { return []byte("{}"), nil }); err != nil {
		t.Fatal(err)
	}
	_, err := s.Once(t.Context(), held, "task", func(context.Context) ([]byte, error) {
		runs, err := s.WaitingRuns(t.Context(), soon)
		slices.SortFunc(runs, func(a, b controlplane.Run) int { return cmp.Compare(a.ID, b.ID) })
		want := []controlplane.Run{{ID: queued, Queue: "homelab/main", Priority: controlplane.Normal}, {ID: begun, Priority: controlplane.Normal}}
		slices.SortFunc(want, func(a, b controlplane.Run) int { return cmp.Compare(a.ID, b.ID) })
		if err != nil || !reflect.DeepEqual(runs, want) {
			t.Errorf("waiting are %+v, %v", runs, err)
		}
		return nil, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if runs, err := s.WaitingRuns(t.Context(), soon); err != nil || len(runs) != 3 {
		t.Errorf("once nobody has a step of it there are %d, %v", len(runs), err)
	}
	if runs, err := s.WaitingRuns(t.Context(), time.Now().Add(-time.Hour)); err != nil || len(runs) != 0 {
		t.Errorf("an hour ago there were %+v, %v", runs, err)
	}
}

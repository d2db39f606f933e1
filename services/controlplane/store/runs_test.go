package store_test

import (
	"errors"
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

func TestSupersede(t *testing.T) {
	s, _ := newStore(t)
	running, waiting := newRun(t, s, "1", "homelab/main"), newRun(t, s, "2", "homelab/main")
	elsewhere, ended := newRun(t, s, "3", "homelab/next"), newRun(t, s, "4", "homelab/main")
	newest, later := newRun(t, s, "5", "homelab/main"), newRun(t, s, "6", "homelab/main")
	if err := s.Begin(t.Context(), running); err != nil {
		t.Fatal(err)
	}
	if err := s.Cancel(t.Context(), ended, ""); err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]controlplane.RunID{{running, waiting}, {}} {
		got, err := s.Supersede(t.Context(), "homelab/main", newest)
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("Supersede = %v, %v; want %v", got, err, want)
		}
	}
	for id, want := range map[controlplane.RunID]controlplane.RunState{
		running: controlplane.RunSuperseded, waiting: controlplane.RunSuperseded, elsewhere: controlplane.RunQueued,
		ended: controlplane.RunCancelled, newest: controlplane.RunQueued, later: controlplane.RunQueued,
	} {
		if r, err := s.Run(t.Context(), id); err != nil || r.State != want {
			t.Errorf("run %s is %s, %v; want %s", r.Key, r.State, err, want)
		}
	}
	if r, err := s.Run(t.Context(), waiting); err != nil || !strings.Contains(r.Error, string(newest)) {
		t.Errorf("it does not say what took its place: %q, %v", r.Error, err)
	}
	free := newRun(t, s, "7", "")
	newRun(t, s, "8", "")
	if got, err := s.Supersede(t.Context(), "", free); err != nil || len(got) != 0 {
		t.Errorf("runs of no queue: %v, %v", got, err)
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

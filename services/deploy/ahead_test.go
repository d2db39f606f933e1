package deploy

import (
	"context"
	"errors"
	"testing"

	"github.com/moby/moby/api/types/swarm"
)

// TestReadAheadReadsOnce plans with what was read ahead: no call is made twice,
// and the next look is a new one.
func TestReadAheadReadsOnce(t *testing.T) {
	engine := newFake()
	p := Project{Releases: []Release{release(t, "version: \"3.8\"\nservices: {web: {image: \"web:1\"}}\n")}}
	deployQuietly(t, engine, p)
	engine.calls = 0
	ahead, stop := ReadAhead(t.Context(), engine)
	defer stop()
	_, plan, err := Look(t.Context(), ahead, p, Scope{}, nil)
	if err != nil || !plan.Empty() {
		t.Fatalf("%v, %v", plan, err)
	}
	if engine.calls != 6 {
		t.Errorf("%d calls, want 6", engine.calls)
	}
	services, err := engine.Services(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.RemoveService(t.Context(), services[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, plan, err = Look(t.Context(), ahead, p, Scope{}, nil); err != nil || plan.Empty() {
		t.Errorf("a service that was removed after the first look is not missed: %v, %v", plan, err)
	}
}

// TestReadAheadDeploysAsItIs deploys when what was read ahead is old: under the
// lease the Swarm is read anew.
func TestReadAheadDeploysAsItIs(t *testing.T) {
	engine := newFake()
	p := Project{Releases: []Release{release(t, "version: \"3.8\"\nservices: {web: {image: \"web:1\"}}\n")}}
	ahead, stop := ReadAhead(t.Context(), engine)
	defer stop()
	read := ahead.(*readAhead)
	for _, done := range []chan struct{}{read.services.done, read.tasks.done, read.networks.done, read.configs.done, read.secrets.done, read.nodes.done} {
		<-done
	}
	deployQuietly(t, engine, p)
	if r := deployQuietly(t, ahead, p); !r.Plan.Empty() {
		t.Errorf("the plan is the old one: %v", r.Plan)
	}
}

// deployQuietly deploys and waits for nothing.
func deployQuietly(t *testing.T, engine Engine, p Project) Result {
	t.Helper()
	o := quick()
	o.NoWait = true
	r, err := Deploy(t.Context(), engine, p, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestReadAheadAsksAgain asks for a list anew that could not be read.
func TestReadAheadAsksAgain(t *testing.T) {
	engine := newFake()
	deployQuietly(t, engine, Project{Releases: []Release{release(t, "version: \"3.8\"\nservices: {web: {image: \"web:1\"}}\n")}})
	failed := false
	engine.fault = func(call string, _ bool) error {
		if failed || call != "services" {
			return nil
		}
		failed = true
		return errors.New("no answer")
	}
	ahead, stop := ReadAhead(t.Context(), engine)
	defer stop()
	live, err := Read(t.Context(), ahead)
	if err != nil || !failed || len(live.Services) != 1 {
		t.Errorf("%d services, %v", len(live.Services), err)
	}
}

// silent answers nothing until its caller gives up.
type silent struct{ *fakeSwarm }

func (silent) Services(ctx context.Context) ([]swarm.Service, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func TestReadAheadEnds(t *testing.T) {
	ahead, stop := ReadAhead(t.Context(), silent{newFake()})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ahead.Services(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that gave up was told %v", err)
	}
	stop()
}

package deploy

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/swarm"
)

var appV0 = strings.Replace(appV1, "web:1", "web:0", 1)

// A change that somebody makes while a deploy runs is seen, also when it was
// taken back before the deploy could look.
func TestAChangeByAnotherIsNotOverwritten(t *testing.T) {
	for name, act := range map[string]func(t *testing.T, f *fakeSwarm){
		"change":          func(t *testing.T, f *fakeSwarm) { f.byHand(t, []string{"env", "app_web", "X=1"}) },
		"change and back": func(t *testing.T, f *fakeSwarm) { f.moved(t, "app_web").PreviousSpec = &swarm.ServiceSpec{} },
		"roll back": func(t *testing.T, f *fakeSwarm) {
			s := f.moved(t, "app_web")
			spec := s.Spec
			s.Spec, s.PreviousSpec = *s.PreviousSpec, &spec
		},
		"change at the end": func(t *testing.T, f *fakeSwarm) {
			f.moved(t, "app_web")
			f.fault = func(call string, _ bool) error {
				if call == "update service app_web" {
					f.byHand(t, []string{"env", "app_web", "X=1"})
					f.fault = nil
				}
				return nil
			}
		},
	} {
		of := func(t *testing.T, prepare func(*fakeSwarm)) {
			f := newFake()
			mustDeploy(t, f, project(t, appV0))
			mustDeploy(t, f, project(t, appV1))
			prepare(f)
			f.fault = func(call string, after bool) error {
				if call == "update service app_web" && !after {
					f.fault = nil
					act(t, f)
				}
				return nil
			}
			var said []string
			var changed swarm.ServiceSpec
			o := quick()
			o.Report = func(e Event) {
				switch e.Verb {
				case Restoring:
					web, _ := f.state.service("app_web")
					changed = web.Spec
				case Warned:
					said = append(said, e.Text)
				}
			}
			result, err := Deploy(t.Context(), f, project(t, appV2), o)
			web, _ := f.state.service("app_web")
			if !errors.Is(err, ErrChanged) || f.image("app_web") == "web:2" || !reflect.DeepEqual(web.Spec, changed) {
				t.Errorf("got %v, and the service is\n%+v, want\n%+v", err, web.Spec, changed)
			}
			if len(result.Failed) != 1 || !result.Failed[0].Restored || len(said) != 1 || !strings.Contains(said[0], "app_web stays") {
				t.Errorf("the stack went back: %+v; said %q", result.Failed, said)
			}
		}
		t.Run(name, func(t *testing.T) { of(t, func(*fakeSwarm) {}) })
		t.Run(name+", no revision", func(t *testing.T) { of(t, (*fakeSwarm).docker) })
	}
}

// moved moves a service's version on and nothing else, as Swarm does when a
// rolling update ends.
func (f *fakeSwarm) moved(t *testing.T, service string) *swarm.Service {
	t.Helper()
	for i := range f.state.Services {
		if s := &f.state.Services[i]; s.Spec.Name == service {
			s.Version = f.next()
			return s
		}
	}
	t.Fatalf("there is no service %s", service)
	return nil
}

// restless moves a service on before every other time that it is written.
func (f *fakeSwarm) restless(t *testing.T) {
	odd := map[string]bool{}
	f.fault = func(call string, after bool) error {
		service, is := strings.CutPrefix(call, "update service ")
		if !is || after {
			return nil
		}
		if odd[service] = !odd[service]; odd[service] {
			f.moved(t, service)
		}
		return nil
	}
}

// What Swarm itself writes to a service is nobody's change.
func TestSwarmMovesServicesOn(t *testing.T) {
	t.Run("deploy", func(t *testing.T) {
		f := newFake()
		mustDeploy(t, f, project(t, appV1))
		f.restless(t)
		mustDeploy(t, f, project(t, appV2))
		f.is(t, project(t, appV2))
	})
	t.Run("rolled back", func(t *testing.T) {
		f := newFake()
		mustDeploy(t, f, project(t, appV0))
		mustDeploy(t, f, project(t, appV1))
		f.fault = func(call string, after bool) error {
			if call == "update service app_web" && !after {
				f.fault = nil
				s := f.moved(t, "app_web")
				s.Spec, s.PreviousSpec = *s.PreviousSpec, nil
			}
			return nil
		}
		mustDeploy(t, f, project(t, appV2))
		f.is(t, project(t, appV2))
	})
	t.Run("reply lost", func(t *testing.T) {
		f := newFake()
		mustDeploy(t, f, project(t, appV1))
		lost := false
		f.fault = func(call string, after bool) error {
			if call != "update service app_web" || after || lost {
				return nil
			}
			lost = true // nor was it carried out
			f.moved(t, "app_web")
			return errdefs.ErrUnavailable
		}
		mustDeploy(t, f, project(t, appV2))
		f.is(t, project(t, appV2))
	})
	for name, prepare := range map[string]func(*fakeSwarm){
		"back to a revision": func(*fakeSwarm) {},
		"back to what was":   (*fakeSwarm).docker,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			mustDeploy(t, f, project(t, appV1))
			prepare(f)
			f.restless(t)
			result, err := Deploy(t.Context(), f, project(t, broken), quick())
			if errors.Is(err, ErrChanged) || len(result.Failed) != 1 || !result.Failed[0].Restored {
				t.Errorf("got %v, %+v", err, result.Failed)
			}
			if f.image("app_web") != "web:1" {
				t.Errorf("web is %s", f.image("app_web"))
			}
		})
	}
	t.Run("adopt", func(t *testing.T) {
		f := newFake()
		mustDeploy(t, f, project(t, appV1))
		f.docker()
		f.restless(t)
		if _, err := Adopt(t.Context(), f, project(t, appV1), quick()); err != nil {
			t.Fatal(err)
		}
		if web, _ := f.state.service("app_web"); web.Spec.Labels[LabelStack] != "app" || web.Spec.Labels[LabelRevision] != "1" {
			t.Errorf("web has the labels %v", web.Spec.Labels)
		}
	})
}

// A service that never rests is given up.
func TestAServiceThatNeverRests(t *testing.T) {
	f := newFake()
	mustDeploy(t, f, project(t, appV1))
	attempts := 0
	f.fault = func(call string, after bool) error {
		if call == "update service app_web" && !after {
			attempts++
			f.moved(t, "app_web")
		}
		return nil
	}
	o := quick()
	o.KeepFailed = true
	if _, err := Deploy(t.Context(), f, project(t, appV2), o); !errors.Is(err, ErrChanged) || attempts != updateAttempts {
		t.Errorf("got %v after %d attempts", err, attempts)
	}
}

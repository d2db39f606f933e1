package deploy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/swarm"
)

var broken = strings.Replace(appV2, "web:2", "broken:2", 1)

// image is what a service runs.
func (f *fakeSwarm) image(service string) string {
	s, ok := f.state.service(service)
	if !ok {
		return ""
	}
	return s.Spec.TaskTemplate.ContainerSpec.Image
}

// docker makes the Swarm one that `docker stack deploy` deployed to.
func (f *fakeSwarm) docker() {
	f.state.Configs = slices.DeleteFunc(f.state.Configs, func(c swarm.Config) bool { return c.Spec.Labels[LabelKind] == kindRevision })
	for i := range f.state.Services {
		maps.DeleteFunc(f.state.Services[i].Spec.Labels, func(k, _ string) bool { return ours(k) })
	}
}

// reports collects what a deploy says.
type reports struct {
	mu     sync.Mutex
	events []Event
}

func (r *reports) report(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *reports) has(v Verb) bool {
	return slices.ContainsFunc(r.events, func(e Event) bool { return e.Verb == v })
}

func TestAStackWithoutARevisionGoesBack(t *testing.T) {
	for name, text := range map[string]string{
		"update":      broken,
		"job mounts":  strings.Replace(broken, "image: migrate:2", "image: migrate:2\n    configs: [{source: conf2, target: /conf}]", 1),
		"other mode":  strings.Replace(broken, "deploy: {replicas: 2,", "deploy: {mode: global,", 1),
		"to a job":    strings.NewReplacer("image: db:1\n    deploy: {", "image: db:2\n    deploy: {mode: replicated-job, ").Replace(broken),
		"new service": broken[:strings.Index(broken, "configs: {conf2")] + "  more:\n    image: more:1\n    networks: [extra]\nnetworks: {extra: {}}\n" + broken[strings.Index(broken, "configs: {conf2"):],
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			mustDeploy(t, f, project(t, appV1))
			f.docker()
			result, err := Deploy(t.Context(), f, project(t, text), quick())
			if err == nil || len(result.Failed) != 1 || result.Failed[0].RestoreErr != nil || !result.Failed[0].Restored {
				t.Fatalf("got %v, %+v", err, result.Failed)
			}
			web, _ := f.state.service("app_web")
			if f.image("app_web") != "web:1" || web.Spec.Mode.Replicated == nil || f.image("app_db") != "db:1" || f.image("app_more") != "" {
				t.Errorf("web is %s, db %s, more %q", f.image("app_web"), f.image("app_db"), f.image("app_more"))
			}
			_, config := f.state.config("app_conf_2")
			if want := name == "job mounts"; config != want {
				t.Errorf("the new config is there: %v, it must be: %v", config, want)
			}
			if _, ok := f.state.network("app_extra"); ok {
				t.Error("the new network is still there")
			}
		})
	}
}

// Going back over a change of modes neither runs a job nor leaves what replaced it.
func TestAJobThatBecameAServiceGoesBack(t *testing.T) {
	f := newFake()
	mustDeploy(t, f, project(t, appV1))
	f.writes = nil
	text := strings.Replace(appV1[:strings.Index(appV1, "x-gates")], "image: migrate:1\n    deploy: {mode: replicated-job}", "image: broken:1", 1)
	result, err := Deploy(t.Context(), f, project(t, text), quick())
	if err == nil || !result.Failed[0].Restored {
		t.Fatalf("got %v, %+v", err, result.Failed)
	}
	if f.image("app_migrate") != "" || f.count("create service app_migrate") != 1 {
		t.Errorf("the service is there: %q; wrote %q", f.image("app_migrate"), f.writes)
	}
}

// What goes wrong once all services are up does not take them down again.
func TestAStackThatIsUpStaysUp(t *testing.T) {
	orphan := strings.Replace(appV1, "  db:\n", "  old:\n    image: old:1\n    deploy: {update_config: {monitor: 1ms}}\n  db:\n", 1)
	for name, c := range map[string]struct {
		call  string
		fails bool
	}{
		"a revision that cannot be removed": {"remove config", false},
		"a service that cannot be pruned":   {"remove service", true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			mustDeploy(t, f, project(t, strings.ReplaceAll(orphan, "web:1", "web:0")))
			mustDeploy(t, f, project(t, orphan))
			f.fault = func(call string, after bool) error {
				if call == c.call {
					return errors.New("permission denied")
				}
				return nil
			}
			var said reports
			o := quick()
			o.Keep, o.Scope.Prune, o.Report = 1, c.fails, said.report
			_, err := Deploy(t.Context(), f, project(t, appV2), o)
			if (err != nil) != c.fails || said.has(Warned) == c.fails || said.has(Restoring) {
				t.Errorf("got %v, reports %+v", err, said.events)
			}
			if f.image("app_web") != "web:2" {
				t.Errorf("web is %s", f.image("app_web"))
			}
			if last := History(f.state, "app")[0]; last.State != StateDeployed {
				t.Errorf("revision %d is %s", last.Number, last.State)
			}
		})
	}
}

// However often a deploy fails, the last good revisions stay.
func TestFailuresDoNotPushOutWhatRolledOut(t *testing.T) {
	f := newFake()
	o := quick()
	o.Keep = 2
	for _, text := range []string{appV1, appV2, broken, broken, broken, strings.ReplaceAll(appV2, "web:2", "web:3")} {
		_, err := Deploy(t.Context(), f, project(t, text), o)
		if (err != nil) != (text == broken) {
			t.Fatal(err)
		}
		failed, whole := 0, 0
		for _, r := range History(f.state, "app") {
			switch r.State {
			case StateFailed:
				failed++
			case StateDeployed:
				whole++
			}
		}
		if failed > 1 || whole > 2 || (text != appV1 && whole != 2) {
			t.Errorf("%d failed and %d whole revisions", failed, whole)
		}
	}
	if _, target, err := Rollback(t.Context(), f, "app", 0, quick()); err != nil || target.Number != 2 || f.image("app_web") != "web:2" {
		t.Errorf("got %v, revision %d, web %s", err, target.Number, f.image("app_web"))
	}
}

// A Swarm that failed to answer once fails the deploy; the way back has another try.
func TestTheWayBackLooksAgain(t *testing.T) {
	f := newFake()
	mustDeploy(t, f, project(t, appV1))
	reads := 0
	f.fault = func(call string, after bool) error {
		if call == "tasks" && !after {
			if reads++; reads == 3 { // the first look at what converges
				return errdefs.ErrPermissionDenied
			}
		}
		return nil
	}
	result, err := Deploy(t.Context(), f, project(t, strings.Replace(appV1, "web:1", "web:2", 1)), quick())
	if !errors.Is(err, errdefs.ErrPermissionDenied) || len(result.Failed) != 1 || !result.Failed[0].Restored {
		t.Fatalf("got %v, %+v", err, result.Failed)
	}
	if f.image("app_web") != "web:1" {
		t.Errorf("web is %s", f.image("app_web"))
	}
}

// An engine lists a network that was removed until its last task ended; what
// was removed must not look like what a deploy can use.
func TestARemovedNetworkIsGone(t *testing.T) {
	f := newFake()
	f.lingers = 2
	var said reports
	o := quick()
	o.Report = said.report
	if _, err := Deploy(t.Context(), f, project(t, strings.Replace(appV1, "web:1", "broken:1", 1)), o); err == nil {
		t.Fatal("no error")
	}
	if f.lingers != 0 || said.has(Pausing) {
		t.Errorf("it is there for %d more looks; reports %+v", f.lingers, said.events)
	}
	mustDeploy(t, f, project(t, appV1))
}

// The network of a name may be found as the one that was removed just before.
func TestANetworkThatIsNotFoundYet(t *testing.T) {
	f := newFake()
	misses := 0
	f.fault = func(call string, after bool) error {
		if call == "create service app_db" && !after && misses < 2 {
			misses++
			return fmt.Errorf("%w: network app_default not found", errdefs.ErrNotFound)
		}
		return nil
	}
	mustDeploy(t, f, project(t, appV1))
	f.is(t, project(t, appV1))
}

// A config may have the name of a service.
func TestAConfigIsNoService(t *testing.T) {
	f := newFake()
	mustDeploy(t, f, project(t, appV1))
	f.writes = nil
	mustDeploy(t, f, project(t, strings.Replace(appV1, "name: app_conf_1}}", "name: app_conf_1}, spare: {file: ./app/conf2, name: app_db}}", 1)))
	if f.count("create config app_db") != 1 || f.count("update service app_db") != 0 {
		t.Errorf("wrote %q", f.writes)
	}
}

// What an attempt created that was cut off, or failed and was kept, goes when
// the next one fails too.
func TestWhatAnAttemptCreatedGoes(t *testing.T) {
	more := strings.Replace(broken, "  migrate:", "  more:\n    image: more:1\n    deploy: {update_config: {monitor: 1ms}}\n  migrate:", 1)
	for _, deployed := range []bool{false, true} {
		for _, kept := range []bool{false, true} {
			f := newFake()
			if deployed {
				mustDeploy(t, f, project(t, appV1))
			}
			o := quick()
			o.KeepFailed = kept
			if !kept {
				dead := false
				f.fault = func(call string, after bool) error {
					if dead = dead || call == "create service app_more" && after; dead {
						return errKilled
					}
					return nil
				}
			}
			if _, err := Deploy(t.Context(), f, project(t, more), o); err == nil || f.image("app_more") != "more:1" {
				t.Fatalf("deployed %v, kept %v: the first attempt: %v, more is %q", deployed, kept, err, f.image("app_more"))
			}
			f.fault = nil
			result, err := Deploy(t.Context(), f, project(t, more), quick())
			if err == nil || len(result.Failed) != 1 || !result.Failed[0].Restored {
				t.Fatalf("deployed %v, kept %v: got %v, %+v", deployed, kept, err, result.Failed)
			}
			if f.image("app_more") != "" {
				t.Errorf("deployed %v, kept %v: the new service is left", deployed, kept)
			}
			if deployed && f.image("app_web") != "web:1" || !deployed && len(f.state.Services) > 0 {
				t.Errorf("deployed %v, kept %v: web is %q of %d services", deployed, kept, f.image("app_web"), len(f.state.Services))
			}
		}
	}
}

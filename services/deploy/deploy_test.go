package deploy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/swarm"
)

const appV1 = `
version: "3.8"
services:
  web:
    image: web:1
    configs: [{source: conf, target: /conf}]
    deploy: {replicas: 2, update_config: {monitor: 1ms}}
  db:
    image: db:1
    deploy: {update_config: {monitor: 1ms}}
  migrate:
    image: migrate:1
    deploy: {mode: replicated-job}
configs: {conf: {file: ./app/conf, name: app_conf_1}}
x-gates: {migrate: web}
`

var appV2 = strings.NewReplacer("web:1", "web:2", "migrate:1", "migrate:2", "{source: conf,", "{source: conf2,", "{conf: {file: ./app/conf, name: app_conf_1}}", "{conf2: {file: ./app/conf2, name: app_conf_2}}").Replace(appV1)

func project(t testing.TB, texts ...string) Project {
	p := Project{Cluster: "test"}
	for _, text := range texts {
		p.Releases = append(p.Releases, release(t, text))
	}
	return p
}

func newFake() *fakeSwarm {
	return &fakeSwarm{state: Live{Nodes: []swarm.Node{{ID: "n1", Description: swarm.NodeDescription{Hostname: "node1"}}}}}
}

func mustDeploy(t *testing.T, engine Engine, p Project) Result {
	t.Helper()
	r, err := Deploy(t.Context(), engine, p, quick())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// is checks that the Swarm is what a release says.
func (f *fakeSwarm) is(t *testing.T, p Project) {
	t.Helper()
	f.fault = nil
	plan, err := Compare(p, f.state, Scope{})
	if err != nil {
		t.Fatal(err)
	}
	if !plan.Empty() {
		t.Errorf("the Swarm is not what was deployed: %+v", plan.Stacks)
	}
	if _, ok := f.state.config(leaseName); ok {
		t.Error("the lease was not given back")
	}
}

func (f *fakeSwarm) count(call string) int {
	n := 0
	for _, w := range f.writes {
		if w == call {
			n++
		}
	}
	return n
}

func TestDeployTwiceWritesOnce(t *testing.T) {
	f := newFake()
	mustDeploy(t, f, project(t, appV1))
	f.is(t, project(t, appV1))
	if f.count("create service app_web") != 1 || f.count("create config skep.app.1") != 1 {
		t.Errorf("wrote %q", f.writes)
	}
	if slices.Index(f.writes, "create service app_web") < slices.Index(f.writes, "create service app_migrate") {
		t.Errorf("web did not wait for its gate: %q", f.writes)
	}
	f.writes, f.calls = nil, 0
	mustDeploy(t, f, project(t, appV1))
	if len(f.writes) != 0 || f.calls != 6 {
		t.Errorf("with nothing to do it made %d calls and wrote %q", f.calls, f.writes)
	}
}

func TestOnlyWhatChangedIsTouched(t *testing.T) {
	f := newFake()
	mustDeploy(t, f, project(t, appV1))
	f.writes = nil
	mustDeploy(t, f, project(t, strings.Replace(appV1, "web:1", "web:2", 1)))
	for _, w := range f.writes {
		if strings.Contains(w, "service") && w != "update service app_web" {
			t.Errorf("it did %q", w)
		}
	}
}

func TestAFailureGoesBack(t *testing.T) {
	f := newFake()
	mustDeploy(t, f, project(t, appV1))
	broken := strings.Replace(appV2, "web:2", "broken:2", 1)
	f.writes = nil
	result, err := Deploy(t.Context(), f, project(t, broken), quick())
	var failure *Failure
	if !errors.As(err, &failure) {
		t.Fatalf("got %v", err)
	}
	if failure.Service != "app_web" || failure.Node != "node1" || failure.ExitCode == nil || *failure.ExitCode != 3 ||
		!slices.Contains(failure.Log, "cannot open the database") || failure.Cause == "" {
		t.Errorf("the failure says %+v", failure)
	}
	if len(result.Failed) != 1 || !result.Failed[0].Restored {
		t.Errorf("it was not restored: %+v", result.Failed)
	}
	if f.count("update service app_migrate") != 1 {
		t.Errorf("going back ran the job again: %q", f.writes)
	}
	web, _ := f.state.service("app_web")
	if got := web.Spec.TaskTemplate.ContainerSpec; got.Image != "web:1" || got.Configs[0].ConfigName != "app_conf_1" {
		t.Errorf("web runs %s with %s", got.Image, got.Configs[0].ConfigName)
	}
	if _, ok := f.state.config("app_conf_2"); ok {
		t.Error("the config of the failed revision is left")
	}
	history := History(f.state, "app")
	if len(history) != 2 || history[0].State != StateFailed || history[1].State != StateDeployed {
		t.Errorf("history %+v", history)
	}
	// The job of the failed revision completed; it does not run once more.
	f.writes = nil
	mustDeploy(t, f, project(t, appV2))
	if f.count("update service app_migrate") != 0 {
		t.Errorf("the job ran twice for one content: %q", f.writes)
	}
	f.is(t, project(t, appV2))
}

func TestAFailureIsKept(t *testing.T) {
	f := newFake()
	mustDeploy(t, f, project(t, appV1))
	o := quick()
	o.KeepFailed = true
	if _, err := Deploy(t.Context(), f, project(t, strings.Replace(appV1, "web:1", "broken:1", 1)), o); err == nil {
		t.Fatal("no error")
	}
	if web, _ := f.state.service("app_web"); web.Spec.TaskTemplate.ContainerSpec.Image != "broken:1" {
		t.Error("it was not kept")
	}
	// The next deploy has nothing to change, and the service still is not up.
	broken := project(t, strings.Replace(appV1, "web:1", "broken:1", 1))
	plan, err := Compare(broken, f.state, Scope{})
	if err != nil || plan.Empty() || len(plan.Stacks[0].Changes) != 0 {
		t.Errorf("the plan says all is well: %+v, %v", plan.Stacks, err)
	}
	var failure *Failure
	if _, err := Deploy(t.Context(), f, broken, o); !errors.As(err, &failure) || failure.Service != "app_web" {
		t.Errorf("the same deploy again: %v", err)
	}
	// Once it is up, the deploy is whole.
	for i := range f.state.Tasks {
		if t := &f.state.Tasks[i]; t.Status.State == swarm.TaskStateFailed {
			t.DesiredState, t.Status.State = swarm.TaskStateRunning, swarm.TaskStateRunning
		}
	}
	mustDeploy(t, f, broken)
	f.is(t, broken)
	mustDeploy(t, f, project(t, appV1))
	f.is(t, project(t, appV1))
}

func TestAFailedFirstDeployLeavesNothing(t *testing.T) {
	f := newFake()
	if _, err := Deploy(t.Context(), f, project(t, strings.Replace(appV1, "web:1", "broken:1", 1)), quick()); err == nil {
		t.Fatal("no error")
	}
	if len(f.state.Services) != 0 || len(f.state.Networks) != 0 {
		t.Errorf("it left %d services and %d networks", len(f.state.Services), len(f.state.Networks))
	}
}

func TestANeedThatFailedStopsWhoNeedsIt(t *testing.T) {
	f := newFake()
	base := release(t, strings.Replace(appV1, "web:1", "broken:1", 1))
	base.Stack, base.Tier = "base", "one"
	user := release(t, appV1)
	user.Stack, user.Tier, user.Needs = "user", "one", append(user.Needs, "base")
	free := release(t, appV1)
	free.Stack, free.Tier = "free", "one"
	later := release(t, appV1)
	later.Stack, later.Tier = "later", "two"
	for _, r := range []*Release{&base, &user, &free, &later} { // configs are the Swarm's, not a stack's
		delete(r.Compose, "configs")
		delete(r.Compose["services"].(map[string]any)["web"].(map[string]any), "configs")
	}
	result, err := Deploy(t.Context(), f, Project{Releases: []Release{base, free, user, later}}, quick())
	if err == nil || len(result.Failed) != 1 || result.Failed[0].Stack != "base" {
		t.Fatalf("got %v, %+v", err, result)
	}
	if fmt.Sprint(result.Skipped) != "[user later]" {
		t.Errorf("skipped %v", result.Skipped)
	}
	if _, ok := f.state.service("free_web"); !ok {
		t.Error("an independent stack was not deployed")
	}
}

// A reply that is lost after the change was made must not make it twice.
func TestLostReplies(t *testing.T) { synctest.Test(t, testLostReplies) }

func testLostReplies(t *testing.T) {
	f := newFake()
	lost := map[string]bool{}
	f.fault = func(call string, after bool) error {
		if after && !lost[call] {
			lost[call] = true
			return errdefs.ErrUnavailable
		}
		return nil
	}
	for _, text := range []string{appV1, appV2} {
		if _, err := Deploy(t.Context(), f, project(t, text), quick()); err != nil {
			t.Fatal(err)
		}
	}
	f.is(t, project(t, appV2))
	for _, w := range f.writes {
		if strings.HasPrefix(w, "create") && !strings.Contains(w, "lease") && f.count(w) != 1 {
			t.Errorf("%s happened %d times", w, f.count(w))
		}
	}
	if f.count("update service app_web") != 1 {
		t.Errorf("web was updated %d times", f.count("update service app_web"))
	}
}

func TestALeaderlessSwarmIsWaitedOut(t *testing.T) { synctest.Test(t, testALeaderlessSwarmIsWaitedOut) }

func testALeaderlessSwarmIsWaitedOut(t *testing.T) {
	f := newFake()
	start := time.Now()
	f.fault = func(string, bool) error {
		if since := time.Since(start); since > 50*time.Millisecond && since < time.Second {
			return fmt.Errorf("%w: the swarm does not have a leader", errdefs.ErrUnavailable)
		}
		return nil
	}
	mustDeploy(t, f, project(t, appV1))
	f.is(t, project(t, appV1))
}

var errKilled = errors.New("killed")

// A deploy that is killed before any of its writes, or after, leaves a Swarm
// that the next deploy finishes. A killed process makes no further call.
func TestKilledAnywhereConverges(t *testing.T) { synctest.Test(t, testKilledAnywhereConverges) }

func testKilledAnywhereConverges(t *testing.T) {
	for _, update := range []bool{false, true} {
		for at, done := 1, false; !done; at++ {
			f := newFake()
			if update {
				mustDeploy(t, f, project(t, appV1))
				f.writes = nil
			}
			dead := false
			f.fault = func(call string, after bool) error {
				// Odd numbers die before a write, even ones after it.
				if len(f.writes) == at/2 && (at%2 == 1) != after && isWrite(call) {
					dead = true
				}
				if dead {
					return errKilled
				}
				return nil
			}
			_, err := Deploy(t.Context(), f, project(t, appV2), quick())
			done = err == nil && !dead // it had fewer writes than that
			f.fault = nil
			again, err := Deploy(t.Context(), f, project(t, appV2), quick())
			if err != nil {
				t.Fatalf("update %v, killed at %d (%v): the next deploy failed: %v", update, at, f.writes, err)
			}
			if again.Plan.Empty() {
				// Killed when all was done: the lease expires.
				f.state.Configs = slices.DeleteFunc(f.state.Configs, func(c swarm.Config) bool { return c.Spec.Name == leaseName })
			}
			f.is(t, project(t, appV2))
			if last := History(f.state, "app")[0]; last.State != StateDeployed {
				t.Errorf("update %v, killed at %d: revision %d is %s", update, at, last.Number, last.State)
			}
			if n := f.count("create service app_migrate") + f.count("update service app_migrate"); n > 1 {
				t.Errorf("update %v, killed at %d: the job ran %d times", update, at, n)
			}
			if t.Failed() {
				return
			}
		}
	}
}

func isWrite(call string) bool {
	return strings.HasPrefix(call, "create") || strings.HasPrefix(call, "update") || strings.HasPrefix(call, "remove")
}

func TestAStalePlanIsRefused(t *testing.T) {
	f := newFake()
	mustDeploy(t, f, project(t, appV1))
	plan, err := Compare(project(t, appV2), f.state, Scope{})
	if err != nil {
		t.Fatal(err)
	}
	f.byHand(t, []string{"env", "app_web", "X=1"})
	o := quick()
	o.Expect = &plan
	f.writes = nil
	if _, err := Deploy(t.Context(), f, project(t, appV2), o); !errors.Is(err, ErrStalePlan) || len(f.writes) != 0 {
		t.Errorf("got %v, wrote %q", err, f.writes)
	}
}

func TestRollback(t *testing.T) {
	f := newFake()
	mustDeploy(t, f, project(t, appV1))
	mustDeploy(t, f, project(t, appV2))
	f.writes = nil
	_, target, err := Rollback(t.Context(), f, "", 0, quick())
	if err != nil || target.Number != 1 {
		t.Fatalf("got %v, to %d", err, target.Number)
	}
	if web, _ := f.state.service("app_web"); web.Spec.TaskTemplate.ContainerSpec.Image != "web:1" {
		t.Error("web is not at its old image")
	}
	if f.count("update service app_migrate") != 0 {
		t.Error("the job ran")
	}
	if h := History(f.state, "app"); len(h) != 3 || h[0].Note != "rollback to revision 1" || h[0].State != StateDeployed {
		t.Errorf("history %+v", h)
	}
}

func TestPruneKeepsRollbackTargets(t *testing.T) {
	f := newFake()
	mustDeploy(t, f, project(t, appV1))
	o := quick()
	o.Scope.Prune = true
	for i := 2; i < 5; i++ {
		o.Keep = 2
		text := strings.NewReplacer("web:2", fmt.Sprintf("web:%d", i), "app_conf_2", fmt.Sprintf("app_conf_%d", i)).Replace(appV2)
		if _, err := Deploy(t.Context(), f, project(t, text), o); err != nil {
			t.Fatal(err)
		}
	}
	var configs []string
	for _, c := range f.state.Configs {
		configs = append(configs, c.Spec.Name)
	}
	slices.Sort(configs)
	for _, want := range []string{"app_conf_3", "app_conf_4", "skep.app.3", "skep.app.4"} {
		if !slices.Contains(configs, want) {
			t.Errorf("%s is gone: %q", want, configs)
		}
	}
	for _, gone := range []string{"app_conf_1", "skep.app.1", "skep.app.2"} {
		if slices.Contains(configs, gone) {
			t.Errorf("%s is still there: %q", gone, configs)
		}
	}
}

func TestDownLeavesNothing(t *testing.T) {
	f := newFake()
	mustDeploy(t, f, project(t, appV1))
	if err := Down(t.Context(), f, "app", quick()); err != nil {
		t.Fatal(err)
	}
	if n := len(f.state.Services) + len(f.state.Networks) + len(f.state.Configs); n != 0 {
		t.Errorf("%d objects are left: %+v", n, f.state.Configs)
	}
}

// An engine lists a network that the Swarm has removed until the last task on it
// has ended. A plan counts on it, and the deploy makes it.
func TestNetworkThatIsGone(t *testing.T) {
	f := newFake()
	if _, err := Deploy(t.Context(), f, project(t, appV1), quick()); err != nil {
		t.Fatal(err)
	}
	f.state.Services, f.state.Tasks = nil, nil
	f.leaving, f.state.Networks = f.state.Networks, nil
	f.lingers = 5
	result, err := Deploy(t.Context(), f, project(t, appV1), quick())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range result.Plan.Stacks[0].Changes {
		if c.Kind == KindNetwork {
			t.Errorf("the plan sees through it: %+v", c)
		}
	}
	if len(f.state.Networks) != 1 || len(f.state.Services) != 3 || f.lingers != 0 {
		t.Errorf("networks %+v, %d services, listed for %d more looks", f.state.Networks, len(f.state.Services), f.lingers)
	}
}

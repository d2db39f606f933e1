package deploy

import (
	"slices"
	"strings"
	"testing"
)

const drivenApp = `
version: "3.8"
services:
  web:
    image: web:1
    secrets: [{source: db, target: db}]
    deploy: {update_config: {monitor: 1ms}}
secrets: {db: {driver: op, labels: {op.ref: "op://v/i/f"}}}
`

// A secret that a driver gives the value of is the stack's: made before the
// service, changed in place by its labels, gone with a failure.
func TestSecretsOfADriver(t *testing.T) {
	f, p := newFake(), project(t, drivenApp)
	mustDeploy(t, f, p)
	secret, ok := f.state.secret("app_db")
	if !ok || secret.Spec.Driver == nil || secret.Spec.Driver.Name != "op" || secret.Spec.Labels["op.ref"] != "op://v/i/f" || len(secret.Spec.Data) != 0 {
		t.Fatalf("the secret is %+v", secret.Spec)
	}
	web, _ := f.state.service("app_web")
	if got := web.Spec.TaskTemplate.ContainerSpec.Secrets; len(got) != 1 || got[0].SecretID != secret.ID {
		t.Errorf("the service mounts %+v", got)
	}
	f.is(t, p)

	f.writes = nil
	p = project(t, strings.Replace(drivenApp, "op://v/i/f", "op://v/i/g", 1))
	mustDeploy(t, f, p)
	if f.count("update secret app_db") != 1 || slices.ContainsFunc(f.writes, func(w string) bool { return strings.Contains(w, "service") }) {
		t.Errorf("it wrote %q", f.writes)
	}
	f.is(t, p)

	plan, err := Compare(project(t, strings.Replace(drivenApp, "driver: op,", "driver: other,", 1)), f.state, Scope{})
	if err != nil || plan.Ready() == nil || !strings.Contains(plan.Ready().Error(), "another driver") {
		t.Errorf("got %v, %v", plan.Ready(), err)
	}

	more := strings.NewReplacer("web:1", "broken:1", "[{source: db, target: db}]", "[{source: db2, target: db}]", "secrets: {db:", "secrets: {db2:").Replace(drivenApp)
	if _, err := Deploy(t.Context(), f, project(t, more), quick()); err == nil {
		t.Fatal("a broken image came up")
	}
	if _, ok := f.state.secret("app_db2"); ok {
		t.Error("the failed deploy leaves its secret")
	}
	f.is(t, project(t, strings.Replace(drivenApp, "op://v/i/f", "op://v/i/g", 1)))
}

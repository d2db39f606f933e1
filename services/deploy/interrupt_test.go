package deploy

import (
	"context"
	"errors"
	"testing"
)

// An interrupt leaves a stack for the next deploy to finish, or takes it back
// when it is asked to. The lease is given back in both cases.
func TestInterrupt(t *testing.T) {
	for name, undo := range map[string]bool{"undo": true, "leave": false} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			first := project(t, appV1)
			mustDeploy(t, f, first)
			ctx, interrupt := context.WithCancelCause(t.Context())
			defer interrupt(nil)
			stop := errors.New("somebody cancelled it")
			var said reports
			o := quick()
			o.Undo = undo
			o.Report = func(e Event) {
				said.report(e)
				if e.Verb == Updated && e.Subject == "service app_db" || e.Verb == Updated && e.Subject == "service app_migrate" {
					interrupt(stop)
				}
			}
			result, err := Deploy(ctx, f, project(t, appV2), o)
			if !errors.Is(err, stop) || len(result.Failed) != 1 || result.Failed[0].Restored != undo || result.Failed[0].RestoreErr != nil {
				t.Fatalf("got %v, %+v", err, result.Failed)
			}
			if _, ok := f.state.config(leaseName); ok {
				t.Error("the lease was not given back")
			}
			history := History(Live{Configs: f.state.Configs}, "app")
			if last := history[0]; (last.State == StateFailed) != undo {
				t.Errorf("the last revision is %+v", last)
			}
			if f.image("app_web") != "web:1" {
				t.Errorf("web is %s", f.image("app_web"))
			}
			if _, there := f.state.config("app_conf_2"); there == undo {
				t.Errorf("the new config is there: %v", there)
			}
			mustDeploy(t, f, project(t, appV2)) // and the next one goes through
			f.is(t, project(t, appV2))
		})
	}
}

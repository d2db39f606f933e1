package dispatch

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"skep/services/controlplane"
)

// A source's task is started by each of its deliveries, once, and knows which.
func TestTaskOfASource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, e := newOutbox(3), newEngine()
		o.tasks = map[controlplane.Name]controlplane.Task{
			"report": {Name: "report", Priority: controlplane.Batch, TaskSpec: controlplane.TaskSpec{Image: "report:1"}},
			"roll":   {Name: "roll", Priority: controlplane.Normal, TaskSpec: controlplane.TaskSpec{Builtin: &controlplane.Builtin{Kind: controlplane.RunDeploy, Project: "home"}}},
		}
		for id, task := range map[int64]controlplane.Name{1: "report", 2: "roll", 3: "nobody"} {
			o.sources[id] = controlplane.Source{ID: id, Provider: controlplane.Generic, Task: task}
		}
		stop := run(t, o, e, o.wake)
		for source := range int64(3) {
			for range 2 { // the second is a replay
				if _, _, err := o.Add(t.Context(), controlplane.Delivery{
					Source: source + 1, Provider: controlplane.Generic, Event: "deployed", Delivery: "msg_1", Body: []byte(`{"task":"$(reboot)"}`),
				}); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		got := map[string]string{}
		for _, r := range e.runs() {
			got[r.Key] = fmt.Sprintf("%s %s %s %s %s", r.Kind, r.Task, r.Project, r.Queue, r.Priority)
			if r.Delivery == 0 {
				t.Errorf("%s has no place among the deliveries", r.Key)
			}
			if strings.Contains(string(r.Input), "reboot") {
				t.Errorf("the body is in the input %s", r.Input)
			}
			if r.Task == "report" && string(r.Input) != `{"delivery":1}` {
				t.Errorf("the input is %s", r.Input)
			}
		}
		if len(got) != 2 || len(e.runs()) != 2 || got["delivery/1/task/report/msg_1"] != "task report   batch" || got["delivery/2/task/roll/msg_1"] != "deploy roll home lab/default: normal" {
			t.Errorf("started %q", got)
		}
		if r := o.row(2); r.State != controlplane.DeliveryFailed || !strings.Contains(r.Error, "nobody") {
			t.Errorf("a delivery for no task is %s: %s", r.State, r.Error)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

package worker

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"skep/services/controlplane"
	"skep/services/worker/output"
)

var update = flag.Bool("update", false, "write the table of the manual")

func newMetrics(t *testing.T) (*Metrics, *prometheus.Registry) {
	t.Helper()
	r := prometheus.NewRegistry()
	m, err := NewMetrics(r)
	if err != nil {
		t.Fatal(err)
	}
	return m, r
}

// TestManual holds that the manual's table of metrics is that of the code.
func TestManual(t *testing.T) {
	const manual, begin, end = "../../docs/guides/control-plane.md", "TestManual -update -->\n", "<!-- end -->"
	m, r := newMetrics(t)
	m.begin(controlplane.Run{State: controlplane.RunQueued, Created: time.Now()})(controlplane.RunFailed)
	m.begin(controlplane.Run{})("")
	m.job("", "", 0)
	m.Swept("")
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| metric of a worker | says |\n|---|---|\n")
	for _, f := range families {
		var by []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			by = append(by, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&table, "| `%s` | %s", f.GetName(), f.GetHelp())
		if len(by) > 0 {
			fmt.Fprintf(&table, " By %s.", strings.Join(by, ", "))
		}
		table.WriteString(" |\n")
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("the names are not Prometheus': %v, %v", problems, err)
	}
	page, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(page), begin)
	_, tail, found := strings.Cut(rest, end)
	if !ok || !found {
		t.Fatalf("%s has no place for the table", manual)
	}
	want := head + begin + table.String() + end + tail
	if want == string(page) {
		return
	}
	if !*update {
		t.Fatalf("%s is stale: run go test ./services/worker -run TestManual -update", manual)
	}
	if err := os.WriteFile(manual, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// value is that of a metric with all of some labels, or a histogram's count.
func value(t *testing.T, r *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			has := func(label string) bool {
				return slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName()+"="+l.GetValue() == label })
			}
			if slices.ContainsFunc(labels, func(l string) bool { return !has(l) }) {
				continue
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// What a worker does is counted once, and nothing is under way afterwards.
func TestMetrics(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world)
		last   bool
		state  string // of the run; empty: another try is due
		lost   float64
	}{
		"succeeded":       {func(*world) {}, false, "succeeded", 0},
		"failed":          {func(w *world) { w.exits["deploy"] = Exit{Code: 1} }, false, "failed", 0},
		"killed":          {func(w *world) { w.exits["deploy"] = Exit{Code: -1, Killed: "it took too long"} }, false, "failed", 0},
		"tried again":     {func(w *world) { w.launchError = errors.New("no node") }, false, "", 1},
		"tried for good":  {func(w *world) { w.launchError = errors.New("no node") }, true, "failed", 1},
		"a provider away": {func(w *world) { w.forgeError = errors.New("away") }, false, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(controlplane.RunDeploy, push())
			w.run.Priority, w.run.Created, w.last = controlplane.Critical, time.Now(), c.last
			c.change(w)
			var r *prometheus.Registry
			w.metrics, r = newMetrics(t)
			if err := w.handle(t); (err != nil) != (c.state == "") {
				t.Fatal(err)
			}
			ended := "state=" + c.state
			if got := value(t, r, "skep_worker_runs_total", "kind=deploy", "priority=critical", ended); c.state != "" && got != 1 {
				t.Errorf("%v runs %s", got, c.state)
			}
			retries, seconds := 0.0, 1.0
			if c.state == "" {
				retries, seconds = 1, 0
			}
			jobs := float64(len(w.jobs)) - c.lost
			if c.lost == 0 && name == "killed" {
				jobs--
			}
			for metric, want := range map[string]float64{
				"skep_worker_runs_total": seconds, "skep_worker_retries_total": retries, "skep_worker_run_seconds": seconds,
				"skep_worker_wait_seconds": 1, "skep_worker_active_runs": 0, "skep_worker_job_seconds": float64(len(w.jobs)),
			} {
				if got := value(t, r, metric); got != want {
					t.Errorf("%s is %v, not %v", metric, got, want)
				}
			}
			if got := value(t, r, "skep_worker_jobs_total", "outcome=ended"); got != jobs {
				t.Errorf("%v jobs ended of %d", got, len(w.jobs))
			}
			if got := value(t, r, "skep_worker_jobs_total", "outcome=lost"); got != c.lost {
				t.Errorf("%v jobs are lost", got)
			}
		})
	}
}

func TestMetricsOfLines(t *testing.T) {
	m, r := newMetrics(t)
	l := &lines{metrics: m}
	for range maxLines + 1 {
		l.add("stdout", "hello")
	}
	l.add("stderr", "it is "+output.Redacted)
	for metric, want := range map[string]float64{
		"skep_worker_log_lines_total": maxLines + 2, "skep_worker_redacted_lines_total": 1, "skep_worker_dropped_lines_total": 3,
	} {
		if got := value(t, r, metric); got != want {
			t.Errorf("%s is %v, not %v", metric, got, want)
		}
	}
}

// A job that ends with its run is no failure of a launcher's.
func TestMetricsOfCancelled(t *testing.T) {
	m, r := newMetrics(t)
	ctx, cancel := context.WithCancel(t.Context())
	w := &Worker{Launcher: launcherFunc(func(context.Context, Job) (Exit, error) {
		cancel()
		return Exit{}, context.Canceled
	}), Metrics: m, Log: slog.New(slog.DiscardHandler)}
	if _, err := w.launch(ctx, Job{Step: "plan"}, &lines{}); err == nil {
		t.Fatal("it was not cancelled")
	}
	if got := value(t, r, "skep_worker_jobs_total", "outcome=cancelled", "step=plan"); got != 1 {
		t.Errorf("%v jobs are cancelled", got)
	}
}

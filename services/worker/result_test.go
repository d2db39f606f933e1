package worker

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"skep/services/controlplane"
)

// Whatever jobs answer, the run ends with a result that the store takes.
func TestResultFits(t *testing.T) {
	const most = 1 << 20 // of the store
	problem := Problem{File: "stacks/a.yaml", Line: 1, Rule: "r", Severity: "warning", Message: "a\x00b<" + strings.Repeat(`"`, 1000)}
	answer, err := json.Marshal(map[string]any{"warnings": 5000, "problems": slices.Repeat([]Problem{problem}, 5000)})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(controlplane.RunDeploy, push())
	w.exits["check"] = Exit{Answer: answer}
	w.exits["plan"] = Exit{Code: exitPending, Answer: []byte(strings.Repeat("<\x00\xff\u2028\"", 1<<19))}
	if err := w.handle(t); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w.finished, []string{"succeeded"}) || len(w.output) > most || !json.Valid(w.output) {
		t.Errorf("finished %q with %d bytes", w.finished, len(w.output))
	}
	if text := string(w.output); strings.Contains(text, `\u0000`) || !strings.HasSuffix(w.result.Plan, cutPlan) {
		t.Errorf("the result ends %q", text[max(0, len(text)-100):])
	}
	if got := w.result.Problems; len(got) == 0 || len(got) == 5000 || !strings.HasPrefix(got[0].Message, "a\uFFFDb<") {
		t.Errorf("%d problems are kept, the first is %+.40v", len(got), got)
	}
	if last := w.reports[len(w.reports)-1]; len(last.Annotations) != 5000 || strings.Contains(last.Summary+last.Annotations[0].Message, "\x00") {
		t.Errorf("the report has %d annotations", len(last.Annotations))
	}

	// And if it does not, without it.
	w = newWorld(controlplane.RunDeploy, push())
	w.refuses = true
	if err := w.handle(t); err != nil || !slices.Equal(w.finished, []string{"succeeded"}) || w.output != nil {
		t.Errorf("finished %q with %q, %v", w.finished, w.output, err)
	}
}

// The last words of a task that writes what is no text are recorded with its
// attempt, which is not made again for want of that.
func TestLastWordsAreText(t *testing.T) {
	l := &lines{}
	l.add("stderr", "\x00broken\xff\x1b[0m")
	if got := problem(Exit{Code: 1}, l); got != "exit code 1: \uFFFDbroken\uFFFD\uFFFD[0m" {
		t.Errorf("it is %q", got)
	}
}

package forgetest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"skep/services/controlplane"
)

// mine are the comments of the client's on a pull request.
func (s *suite) mine(number int) []controlplane.Comment {
	return slices.DeleteFunc(s.Fake.Comments(number), func(c controlplane.Comment) bool { return c.Author != s.Self })
}

func (s *suite) comment(t *testing.T) {
	number := s.pull(t)
	say := func(key, text string) {
		t.Helper()
		must(t, s.Comment(t.Context(), s.Repository, number, key, text))
	}
	say("plan", "first *plan*")
	before := s.mine(number)
	if len(before) != 1 || !strings.Contains(before[0].Body, "first *plan*") {
		t.Fatalf("the first comment shows as %v", before)
	}
	say("plan", "second plan \u2192 \U0001F41D")
	after := s.mine(number)
	if len(after) != 1 || after[0].ID != before[0].ID || !strings.Contains(after[0].Body, "second plan \u2192 \U0001F41D") || strings.Contains(after[0].Body, "first") {
		t.Fatalf("it was to change and is %v", after)
	}
	// Another key has a comment of its own, and what a text holds of a marker
	// makes it nobody else's.
	say("preview", "here it is\n"+after[0].Body)
	say("pre", "a part of a key")
	say("plan", "third plan\n"+s.mine(number)[1].Body)
	say("preview", "moved")
	got := s.mine(number)
	if len(got) != 3 || !strings.Contains(got[0].Body, "third plan") || !strings.Contains(got[1].Body, "moved") || strings.Contains(got[1].Body, "here it is") ||
		!strings.Contains(got[2].Body, "a part of a key") {
		t.Errorf("three keys show as %v", got)
	}
}

// commentAmongMany: ours stands behind more than a page of others', and a page
// has a hundred.
func (s *suite) commentAmongMany(t *testing.T) {
	number := s.pull(t)
	talk := func() {
		for i := range 120 {
			_, err := s.Fake.AddComment(number, "ada", fmt.Sprint("word ", i))
			must(t, err)
		}
	}
	talk()
	must(t, s.Comment(t.Context(), s.Repository, number, "plan", "first"))
	talk()
	must(t, s.Comment(t.Context(), s.Repository, number, "plan", "second"))
	if got := s.mine(number); len(got) != 1 || !strings.Contains(got[0].Body, "second") {
		t.Errorf("among 240 others there are %v", got)
	}
	if all := s.Fake.Comments(number); len(all) != 241 {
		t.Errorf("there are %d comments, want 241", len(all))
	}
}

// commentOfAStranger: a copy of the marker is worth nothing.
func (s *suite) commentOfAStranger(t *testing.T) {
	number := s.pull(t)
	must(t, s.Comment(t.Context(), s.Repository, number, "plan", "learn the marker"))
	marked := s.mine(number)[0].Body
	other, err := s.Fake.OpenPullRequest(PullRequest{Head: "work", Base: "main", Author: "mallory"})
	if err != nil { // one pull request a branch
		s.push(t, "more", map[string]string{"b": "c"})
		other, err = s.Fake.OpenPullRequest(PullRequest{Head: "more", Base: "main", Author: "mallory"})
	}
	must(t, err)
	spoof, err := s.Fake.AddComment(other, "mallory", marked)
	must(t, err)
	for range 2 {
		must(t, s.Comment(t.Context(), s.Repository, other, "plan", "the real one"))
	}
	all := s.Fake.Comments(other)
	if len(all) != 2 || all[0].ID != spoof || all[0].Body != marked || all[1].Author != s.Self || !strings.Contains(all[1].Body, "the real one") {
		t.Errorf("beside a spoofed comment there are %v", all)
	}
}

func (s *suite) commentTooLong(t *testing.T) {
	number := s.pull(t)
	for range 2 {
		must(t, s.Comment(t.Context(), s.Repository, number, "plan", "begin "+strings.Repeat("\U0001F41D", 1_100_000)))
	}
	got := s.mine(number)
	if len(got) != 1 || !strings.Contains(got[0].Body, "begin \U0001F41D") || strings.Contains(got[0].Body, "\uFFFD") {
		t.Errorf("a text longer than any provider takes leaves %d comments", len(got))
	}
}

func (s *suite) reaction(t *testing.T) {
	if !s.has(Reactions) {
		return
	}
	number := s.pull(t)
	_, err := s.Fake.AddComment(number, "ada", "before")
	must(t, err)
	command, err := s.Fake.AddComment(number, "ada", "/skep plan")
	must(t, err)
	for range 2 { // delivered twice, seen once
		must(t, s.React(t.Context(), s.Repository, number, command))
	}
	if got := s.Fake.Reactions(number, command); !slices.Equal(got, []string{s.Self}) {
		t.Errorf("the command has reactions of %v", got)
	}
	for _, comment := range []string{"", "x", "../1", "1/../2", "-1"} {
		if err := s.React(t.Context(), s.Repository, number, comment); err == nil {
			t.Errorf("comment %q takes a reaction", comment)
		}
	}
}

func (s *suite) report(t *testing.T) {
	c := s.push(t, "main", map[string]string{"a": "b"})
	other := s.push(t, "main", map[string]string{"a": "c"})
	states := []controlplane.ReportState{
		controlplane.ReportPending, controlplane.ReportSuccess, controlplane.ReportPending, controlplane.ReportFailure,
		controlplane.ReportError, controlplane.ReportSuperseded, controlplane.ReportPending, controlplane.ReportCancelled, controlplane.ReportSuccess,
	}
	for _, state := range states {
		for range 2 { // a step may run twice
			must(t, s.Report(t.Context(), s.Repository, c, controlplane.Report{
				Name: "skep/plan", State: state, Title: "2 services change\nand a second line", Summary: "**two**", URL: "https://skep.example.com/runs/1",
			}))
			got := s.Fake.Reports(c)
			if len(got) != 1 || got[0].Name != "skep/plan" || got[0].State != s.States[state] {
				t.Fatalf("%s shows as %+v; want %s", state, got, s.States[state])
			}
		}
	}
	must(t, s.Report(t.Context(), s.Repository, c, controlplane.Report{Name: "skep/check", State: controlplane.ReportPending}))
	if got := s.Fake.Reports(c); len(got) != 2 {
		t.Errorf("two names show as %+v", got)
	}
	if got := s.Fake.Reports(other); len(got) != 0 {
		t.Errorf("another commit has %+v", got)
	}
	long := controlplane.Report{Name: "skep/check", State: controlplane.ReportFailure, Title: strings.Repeat("\u00fc", 5000), Summary: strings.Repeat("\u00fc", 100_000)}
	must(t, s.Report(t.Context(), s.Repository, c, long))
}

func (s *suite) annotations(t *testing.T) {
	if !s.has(Annotations) {
		return
	}
	c := s.push(t, "main", map[string]string{"stacks/a/stack.yaml": strings.Repeat("x\n", 200)})
	// More than a request takes.
	want := make([]controlplane.Annotation, 120)
	for i := range want {
		want[i] = controlplane.Annotation{Path: "stacks/a/stack.yaml", Line: i + 1, Warning: i%3 == 0, Rule: "SK100", Message: fmt.Sprint("problem ", i)}
		if i%2 == 0 {
			want[i].Column = 3
		}
	}
	report := controlplane.Report{Name: "skep/check", State: controlplane.ReportPending}
	must(t, s.Report(t.Context(), s.Repository, c, report))
	report.State, report.Annotations = controlplane.ReportFailure, want
	for range 2 {
		must(t, s.Report(t.Context(), s.Repository, c, report))
		got := s.Fake.Reports(c)
		if len(got) != 1 || got[0].State != s.States[controlplane.ReportFailure] || !reflect.DeepEqual(got[0].Annotations, want) {
			t.Fatalf("120 annotations show as %d: %+v", len(got[0].Annotations), got)
		}
	}
}

package gitlab_test

import (
	"errors"
	"strings"
	"testing"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/integration/forgetest"
	"skep/services/controlplane/integration/gitlab/gitlabtest"
)

func options() integration.Options {
	clock := forgetest.NewClock() // 2026-03-04
	return integration.Options{Loopback: true, Now: clock.Now, Wait: clock.Wait}
}

func TestPermissionFailsClosed(t *testing.T) {
	f, forge := start(t, options())
	// No name finds everybody, and there is only one, who may do anything.
	if got, err := forge.Permission(t.Context(), repository, ""); err != nil || got != controlplane.PermissionNone {
		t.Errorf("nobody may %d, %v", got, err)
	}
	for name, m := range map[string]gitlabtest.Member{
		"guest": {Access: 10}, "planner": {Access: 15}, "awaiting": {Access: 40, Membership: "awaiting"}, "ended": {Access: 40, Expires: "2026-03-04"},
		"odd": {Access: 40, Expires: "soon"}, "barred": {Access: 40, State: "blocked"}, "until": {Access: 40, Expires: "2026-03-05"}, "dev": {Access: 30},
		"blocked": {Access: 50, State: "active"},
	} {
		f.AddUser(gitlabtest.User{Name: name})
		f.SetMember(repository, name, m)
	}
	f.AddUser(gitlabtest.User{Name: "blocked", State: "blocked"})
	for login, want := range map[string]controlplane.Permission{
		"guest": controlplane.PermissionNone, "planner": controlplane.PermissionNone, "awaiting": controlplane.PermissionNone, "ended": controlplane.PermissionNone,
		"odd": controlplane.PermissionNone, "barred": controlplane.PermissionNone, "blocked": controlplane.PermissionNone, "": controlplane.PermissionNone,
		"until": controlplane.PermissionAdmin, "DEV": controlplane.PermissionWrite,
	} {
		if got, err := forge.Permission(t.Context(), repository, login); err != nil || got != want {
			t.Errorf("%q may %d, %v; want %d", login, got, err, want)
		}
	}
	if got, err := forge.Permission(t.Context(), "platform/elsewhere", "dev"); got != controlplane.PermissionNone || !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("in no project: %d, %v", got, err)
	}
}

func pull(t *testing.T, f *fake, fork bool) int {
	t.Helper()
	if _, err := f.Push("main", map[string]string{"a": "b"}); err != nil {
		t.Fatal(err)
	}
	n, err := f.OpenPullRequest(forgetest.PullRequest{Head: "main", Base: "main", Author: "mallory", Fork: fork})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNoQuickActions(t *testing.T) {
	f, forge := start(t, options())
	n := pull(t, f, true)
	hostile := "/merge\n  /approve\n\t/close\r/label ~x\r\n/assign me\n```\n/srv/data\n```\ntext /merge text"
	for range 2 { // written, and changed
		if err := forge.Comment(t.Context(), repository, n, "plan", hostile); err != nil {
			t.Fatal(err)
		}
		hostile += "\n/unlabel"
	}
	if got := f.Actions(); len(got) != 0 {
		t.Errorf("GitLab carried out %v", got)
	}
	for _, want := range []string{"/merge\n", "/approve\n", "/close\n", "/label ~x\n", "/srv/data\n", "text /merge text"} {
		if body := f.Notes(repository, n)[0].Body; !strings.Contains(body, want) {
			t.Errorf("%q is gone from %q", want, body)
		}
	}
}

func TestMarkerIsNobodyElses(t *testing.T) {
	f, forge := start(t, options())
	n := pull(t, f, false)
	for _, key := range []string{"plan", "a --> b", "a\n/merge", "preview-1"} {
		for _, text := range []string{"one of " + key, "two of " + key} {
			if err := forge.Comment(t.Context(), repository, n, key, text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if notes := f.Notes(repository, n); len(notes) != 4 || len(f.Actions()) != 0 {
		t.Errorf("four keys have %+v, and did %v", notes, f.Actions())
	}
	for _, note := range f.Notes(repository, n) {
		first, _, _ := strings.Cut(note.Body, "\n")
		if !strings.HasPrefix(first, "<!-- ") || strings.Index(first, "-->") != len(first)-3 {
			t.Errorf("the marker shows: %q", first)
		}
	}
	// A note of GitLab's own counts for nobody's.
	f.AddNote(repository, n, self, strings.ReplaceAll(f.Notes(repository, n)[0].Body, "plan", "system"), true)
	if err := forge.Comment(t.Context(), repository, n, "system", "x"); err != nil || len(f.Notes(repository, n)) != 6 {
		t.Errorf("beside a system note: %v, %d notes", err, len(f.Notes(repository, n)))
	}
}

func TestDeletedForkIsAFork(t *testing.T) {
	f, forge := start(t, options())
	n := pull(t, f, true)
	f.DeleteFork(repository, n)
	if got, err := forge.PullRequest(t.Context(), repository, n); err != nil || !got.Fork {
		t.Errorf("the merge request is %+v, %v", got, err)
	}
}

func TestReportIsRefused(t *testing.T) {
	f, forge := start(t, options())
	c, err := f.Push("main", map[string]string{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	if err := forge.Report(t.Context(), repository, c, controlplane.Report{Name: "x", State: "odd"}); err == nil {
		t.Error("a state that there is not is taken")
	}
	missing := controlplane.Commit(strings.Repeat("ab", 20))
	if err := forge.Report(t.Context(), repository, missing, controlplane.Report{Name: "x", State: controlplane.ReportPending}); !errors.Is(err, controlplane.ErrNotFound) {
		t.Errorf("a report on no commit: %v", err)
	}
	f.Grant(self, controlplane.PermissionRead)
	if err := forge.Report(t.Context(), repository, c, controlplane.Report{Name: "x", State: controlplane.ReportPending}); !errors.Is(err, controlplane.ErrDenied) {
		t.Errorf("a report of one who may only read: %v", err)
	}
}

func TestReactionToNoNote(t *testing.T) {
	f, forge := start(t, options())
	for _, id := range []string{"", "x", "0", "-1", "1/2", "..", "1?name=x", "99999999999999999999"} {
		if err := forge.React(t.Context(), repository, 1, id); err == nil || f.Requests() != 0 {
			t.Errorf("note %q: %v, after %d requests", id, err, f.Requests())
		}
	}
}

func TestReportGivesUp(t *testing.T) {
	// A bad request that is no repetition stays one.
	f, forge := start(t, options())
	c, err := f.Push("main", map[string]string{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	if err := forge.Report(t.Context(), repository, c, controlplane.Report{Name: "x", State: controlplane.ReportFailure}); err != nil {
		t.Fatal(err)
	}
	f.RefuseStatuses()
	var refused *integration.StatusError
	if err := forge.Report(t.Context(), repository, c, controlplane.Report{Name: "x", State: controlplane.ReportSuccess}); !errors.As(err, &refused) || refused.Status != 400 {
		t.Errorf("a refused report: %v", err)
	}
}

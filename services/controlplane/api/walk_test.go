package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"skep/internal/polltest"
	"skep/services/controlplane"
)

// TestWalk goes through all of the API as its users do, on a real database.
func TestWalk(t *testing.T) {
	db := newStore(t)
	s := serve(t, db)
	admin := newToken(t, db, "root", controlplane.ScopeAdmin)
	put := func(path string, body any, out any) {
		t.Helper()
		s.call(t, "PUT", Prefix+path, admin, body).into(t, 200, out)
	}
	get := func(path string, out any) {
		t.Helper()
		s.call(t, "GET", Prefix+path, admin, nil).into(t, 200, out)
	}

	var in Integration
	put("/integrations/github/main", map[string]any{
		"settings": map[string]string{"organization": "acme"}, "credentials": map[string]string{"token": "hunter2hunter2", "key": "op://v/i/key"},
	}, &in)
	if in.Version != 1 || strings.Join(in.Credentials, " ") != "key token" || in.Settings["organization"] != "acme" || in.Tested != nil {
		t.Errorf("the integration is %+v", in)
	}
	// Without credentials those that are there stay, and count.
	put("/integrations/github/main", map[string]any{"settings": map[string]string{"organization": "emca"}}, &in)
	if len(in.Credentials) != 2 || in.Settings["organization"] != "emca" {
		t.Errorf("the integration is %+v", in)
	}
	put("/integrations/github/main", map[string]any{
		"settings": map[string]string{"organization": "emca"}, "credentials": map[string]string{"token": "hunter3hunter3"},
	}, &in)
	if in.Version != 3 || len(in.Credentials) != 1 {
		t.Errorf("rotated, the integration is %+v", in)
	}
	var tested Tested
	s.call(t, "POST", Prefix+"/integrations/github/main/test", admin, nil).into(t, 200, &tested)
	if tested.Account != "an account with 14 bytes" {
		t.Errorf("the account is %+v", tested)
	}
	if get("/integrations/github/main", &in); in.Tested == nil {
		t.Error("the test left no trace")
	}
	put("/integrations/github/bad", map[string]any{
		"settings": map[string]string{"organization": "acme"}, "credentials": map[string]string{"token": "refused-by-all"},
	}, nil)
	if p := s.call(t, "POST", Prefix+"/integrations/github/bad/test", admin, nil).problem(t); p.Status != 422 || !strings.Contains(p.Detail, "Bad credentials") {
		t.Errorf("credentials that are refused: %+v", p)
	}
	put("/integrations/github/ref", map[string]any{
		"settings": map[string]string{"organization": "acme"}, "credentials": map[string]string{"token": "op://vault/item/token"},
	}, nil)
	if a := s.call(t, "POST", Prefix+"/integrations/github/ref/test", admin, nil); a.status != 422 || !strings.Contains(a.body, "has no 1Password") {
		t.Errorf("a reference that nobody resolves: %d %s", a.status, a.body)
	}

	var source Source
	put("/sources/github/main", map[string]any{"integration": "main", "secret": strings.Repeat("s3cret", 4)}, &source)
	if source.Path != "/api/v1/webhooks/github/main" || source.Integration != "main" {
		t.Errorf("the source is %+v", source)
	}
	put("/sources/github/main", map[string]any{"integration": "main", "disabled": true}, &source)
	if !source.Disabled {
		t.Errorf("the source is %+v", source)
	}
	kept, err := db.Source(t.Context(), controlplane.GitHub, "main")
	if content, e := kept.Secret.Bytes(); err != nil || e != nil || string(content) != strings.Repeat("s3cret", 4) {
		t.Errorf("the source's secret was not kept: %v, %v", err, e)
	}

	var project Project
	put("/projects/home", map[string]any{
		"provider": "github", "integration": "main", "repository": "acme/cluster", "branch": "main", "folder": "stacks", "cluster": "home",
		"deploy": "always", "previews": map[string]any{"enabled": true, "label": "preview", "lifetime": "72h", "limit": 3},
	}, &project)
	if project.Previews.Lifetime != Duration(72*time.Hour) || project.Deploy != controlplane.DeployAlways || project.Folder != "stacks" {
		t.Errorf("the project is %+v", project)
	}

	id, _, err := db.Add(t.Context(), controlplane.Delivery{
		Source: kept.ID, Delivery: "d-1", Event: "push", Headers: map[string]string{"X-Github-Event": "push"}, Body: []byte(`{"a":"ü"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	binary, _, err := db.Add(t.Context(), controlplane.Delivery{Source: kept.ID, Delivery: "d-2", Event: "push", Body: []byte{0xff, 0}})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Ignored(t.Context(), id, "nothing to do"); err != nil {
		t.Fatal(err)
	}
	var full FullDelivery
	if get(fmt.Sprintf("/deliveries/%d", id), &full); full.Source != "github/main" || full.Encoding != "text" || full.Body != `{"a":"ü"}` || full.Headers["X-Github-Event"] != "push" {
		t.Errorf("the delivery is %+v", full)
	}
	if get(fmt.Sprintf("/deliveries/%d", binary), &full); full.Encoding != "base64" || full.Body != "/wA=" {
		t.Errorf("the delivery is %+v", full)
	}
	var page Page[Delivery]
	if get("/deliveries?source=github/main&state=ignored", &page); len(page.Items) != 1 || page.Items[0].ID != id || page.Items[0].Error != "nothing to do" {
		t.Errorf("the deliveries are %+v", page)
	}
	s.call(t, "POST", Prefix+fmt.Sprintf("/deliveries/%d/redeliver", id), admin, nil).into(t, 202, nil)
	if get("/deliveries?state=ignored", &page); len(page.Items) != 0 {
		t.Errorf("the deliveries are %+v", page)
	}

	var task Task
	put("/tasks/nightly", map[string]any{
		"image": "example.com/tool:1", "command": []string{"run", "--all"}, "inputs": map[string]string{"MODE": "slow", "LEVEL": "1"},
		"credentials": []map[string]string{{"provider": "github", "name": "main"}}, "limits": map[string]any{"cpu": 0.5, "memory": 1 << 28},
		"deadline": "10m", "retries": map[string]any{"max": 2, "backoff": "30s"},
	}, &task)
	if task.Priority != controlplane.Normal || task.Deadline != Duration(10*time.Minute) || task.Retries.Max != 2 || task.Limits.CPU != 0.5 {
		t.Errorf("the task is %+v", task)
	}
	var schedule Schedule
	put("/schedules/nightly", map[string]any{"task": "nightly", "cron": "30 4 * * mon", "zone": "Europe/Berlin", "overlap": "replace"}, &schedule)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	if n := schedule.Next.In(berlin); n.Weekday() != time.Monday || n.Hour() != 4 || n.Minute() != 30 {
		t.Errorf("the schedule is %+v", schedule)
	}
	if a := s.call(t, "DELETE", Prefix+"/tasks/nightly", admin, nil); a.status != http.StatusConflict {
		t.Errorf("a task that a schedule starts: %d %s", a.status, a.body)
	}

	var started Started
	run := s.request(t, "POST", Prefix+"/tasks/nightly/runs", admin, map[string]any{"inputs": map[string]string{"MODE": "fast"}})
	run.Header.Set("Idempotency-Key", "once")
	s.send(t, run).into(t, 202, &started)
	if !started.Created || len(s.starter.runs) != 1 || s.starter.runs[0].ID != started.ID {
		t.Errorf("started %+v, and the engine has %+v", started, s.starter.runs)
	}
	run = s.request(t, "POST", Prefix+"/tasks/nightly/runs", admin, nil)
	run.Header.Set("Idempotency-Key", "once")
	var again Started
	s.send(t, run).into(t, 202, &again)
	if again.Created || again.ID != started.ID {
		t.Errorf("the same key started %+v after %+v", again, started)
	}
	var fullRun FullRun
	if get("/runs/"+string(started.ID), &fullRun); fullRun.Task != "nightly" || fullRun.State != controlplane.RunQueued || string(fullRun.Input) != `{"inputs":{"MODE":"fast"}}` {
		t.Errorf("the run is %+v with the input %s", fullRun, fullRun.Input)
	}
	testOutput(t, s, db, admin, started.ID)

	testPages(t, s, db, admin)
	testEngineAway(t, s, admin)
	testBuiltin(t, s, admin)

	var audit Page[AuditRow]
	get("/audit?actor=token/root&limit=1000", &audit)
	seen := map[string]bool{}
	for _, r := range audit.Items {
		seen[r.Action+" "+r.Target+" "+r.Outcome] = true
		if r.Request == "" {
			t.Errorf("no request in %+v", r)
		}
	}
	for _, want := range []string{
		"integration.put github/main done", "integration.test github/bad failed", "source.put github/main done", "project.put home done",
		fmt.Sprintf("delivery.redeliver %d done", id), "task.put nightly done", "schedule.put nightly done", "task.run nightly done",
		"task.delete nightly failed", "run.cancel " + string(started.ID) + " done",
	} {
		if !seen[want] {
			t.Errorf("the audit log lacks %q; it has %v", want, seen)
		}
	}

	for _, path := range []string{"/schedules/nightly", "/tasks/nightly", "/projects/home", "/projects/pa", "/projects/pb", "/projects/pc", "/sources/github/main", "/integrations/github/main"} {
		s.call(t, "DELETE", Prefix+path, admin, nil).into(t, 204, nil)
		if a := s.call(t, "GET", Prefix+path, admin, nil); a.status != 404 {
			t.Errorf("%s is still there: %d", path, a.status)
		} else {
			a.problem(t)
		}
		if a := s.call(t, "DELETE", Prefix+path, admin, nil); a.status != 404 {
			t.Errorf("%s was deleted twice: %d", path, a.status)
		}
	}
	newToken(t, db, "ci", controlplane.ScopeRead)
	var tokens Page[Token]
	if get("/tokens", &tokens); len(tokens.Items) != 2 || tokens.Items[0].Name != "ci" {
		t.Errorf("the tokens are %+v", tokens)
	}
	s.call(t, "DELETE", Prefix+"/tokens/root", admin, nil).into(t, 204, nil)
	if a := s.call(t, "GET", Prefix+"/tokens", admin, nil); a.status != 401 {
		t.Errorf("a token that was revoked: %d", a.status)
	}
}

// testOutput is about what a run writes.
func testOutput(t *testing.T, s *service, db Store, admin string, id controlplane.RunID) {
	t.Helper()
	writer := db.(interface {
		outputs
		Runs
	})
	lines := []controlplane.LogLine{{N: 1, At: time.Unix(1, 0), Stream: "stdout", Text: "one"}, {N: 2, At: time.Unix(2, 0), Stream: "stderr", Text: "two"}}
	if err := errors.Join(
		writer.AppendLog(t.Context(), id, lines),
		writer.PutArtefact(t.Context(), id, "dir/a file.html", "text/html", []byte("<script>")),
		writer.PutArtefact(t.Context(), id, "b", "no type\r\nX-Evil: 1", []byte("b")),
	); err != nil {
		t.Fatal(err)
	}
	base := Prefix + "/runs/" + string(id)
	var log LogPage
	if s.call(t, "GET", base+"/log?limit=1", admin, nil).into(t, 200, &log); len(log.Items) != 1 || log.Next != 1 || log.Over {
		t.Errorf("the log is %+v", log)
	}
	if s.call(t, "GET", base+"/log?after=1", admin, nil).into(t, 200, &log); len(log.Items) != 1 || log.Items[0].Text != "two" || log.Over {
		t.Errorf("the log is %+v", log)
	}
	if a := s.call(t, "GET", base+"/log/text", admin, nil); a.body != "one\ntwo\n" {
		t.Errorf("the log is %q", a.body)
	}
	followed := make(chan answer)
	go func() {
		followed <- s.call(t, "GET", base+"/log/text?follow=true&after=1", admin, nil)
	}()
	polltest.Until(t, func() error {
		if len(s.streams) == 0 {
			return errNotYet
		}
		return nil
	})
	if err := writer.AppendLog(t.Context(), id, []controlplane.LogLine{{N: 3, At: time.Unix(3, 0), Stream: "stdout", Text: "three"}}); err != nil {
		t.Fatal(err)
	}
	s.call(t, "POST", base+"/cancel", admin, nil).into(t, 202, nil)
	if a := <-followed; a.body != "two\nthree\n" {
		t.Errorf("who followed saw %q", a.body)
	}
	if s.call(t, "GET", base+"/log?after=3", admin, nil).into(t, 200, &log); !log.Over || log.Next != 3 {
		t.Errorf("the log is %+v", log)
	}
	run, err := writer.Run(t.Context(), id)
	if err != nil || run.State != controlplane.RunCancelled || run.Error != "cancelled by token/root" {
		t.Errorf("the run is %+v, %v", run, err)
	}

	var files Page[Artefact]
	if s.call(t, "GET", base+"/artefacts", admin, nil).into(t, 200, &files); len(files.Items) != 2 || files.Items[0].Name != "b" || files.Items[1].Size != 8 {
		t.Errorf("the files are %+v", files)
	}
	a := s.call(t, "GET", base+"/artefacts/dir%2Fa%20file.html", admin, nil)
	if a.body != "<script>" || a.header.Get("Content-Disposition") != `attachment; filename="a file.html"` || a.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("the file is %q with %v", a.body, a.header)
	}
	if a := s.call(t, "GET", base+"/artefacts/b", admin, nil); a.header.Get("Content-Type") != "application/octet-stream" || a.header.Get("X-Evil") != "" {
		t.Errorf("the file has %v", a.header)
	}
	if a := s.call(t, "GET", base+"/artefacts/none", admin, nil); a.status != 404 {
		t.Errorf("a file that is not there: %d", a.status)
	}
}

// testPages goes through every list, one item at a time.
func testPages(t *testing.T, s *service, db Store, admin string) {
	t.Helper()
	for _, name := range []string{"a", "b", "c"} {
		s.call(t, "PUT", Prefix+"/tasks/"+name, admin, map[string]any{"image": "i"}).into(t, 200, nil)
		s.call(t, "PUT", Prefix+"/schedules/"+name, admin, map[string]any{"task": name, "cron": "0 0 * * *"}).into(t, 200, nil)
		s.call(t, "PUT", Prefix+"/sources/gitlab/"+name, admin, map[string]any{"secret": strings.Repeat("s", 20)}).into(t, 200, nil)
		s.call(t, "POST", Prefix+"/tasks/"+name+"/runs", admin, nil).into(t, 202, nil)
		s.call(t, "PUT", Prefix+"/projects/p"+name, admin, map[string]any{
			"provider": "github", "integration": "main", "repository": "acme/cluster", "cluster": "home", "deploy": "never",
		}).into(t, 200, nil)
		if err := db.Audit(t.Context(), controlplane.Audit{Actor: "x", Action: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]int{
		"/tasks": 4, "/schedules": 4, "/sources": 4, "/runs": 4, "/runs?task=a": 1, "/projects": 4, "/integrations": 3, "/integrations?provider=github": 3,
		"/audit?actor=x": 3, "/deliveries": 2, "/deliveries?source=github/main": 2, "/tokens": 1,
	} {
		separator := "?"
		if strings.Contains(path, "?") {
			separator = "&"
		}
		seen, next := map[string]bool{}, ""
		for {
			var page Page[map[string]any]
			s.call(t, "GET", Prefix+path+separator+"limit=1&cursor="+next, admin, nil).into(t, 200, &page)
			for _, item := range page.Items {
				seen[fmt.Sprint(item["provider"], item["name"], item["id"])] = true
			}
			if next = page.Next; next == "" {
				break
			}
			if len(seen) > want {
				t.Fatalf("%s has more than %d items: %v", path, want, seen)
			}
		}
		if len(seen) != want {
			t.Errorf("%s: %d items came page by page, want %d: %v", path, len(seen), want, seen)
		}
	}
}

// testEngineAway leaves no run that nobody starts.
func testEngineAway(t *testing.T, s *service, admin string) {
	t.Helper()
	s.starter.mu.Lock()
	s.starter.err = errors.New("the engine is away")
	s.starter.mu.Unlock()
	a := s.call(t, "POST", Prefix+"/tasks/a/runs", admin, nil)
	if a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	var runs Page[Run]
	s.call(t, "GET", Prefix+"/runs?task=a&state=cancelled", admin, nil).into(t, 200, &runs)
	if len(runs.Items) != 1 {
		t.Errorf("the runs are %+v", runs)
	}
	r := s.request(t, "POST", Prefix+"/tasks/a/runs", admin, nil)
	r.Header.Set("Idempotency-Key", "later")
	if a := s.send(t, r); a.status != 503 {
		t.Errorf("got %d %s", a.status, a.body)
	}
	s.starter.mu.Lock()
	s.starter.err = nil
	s.starter.mu.Unlock()
	r = s.request(t, "POST", Prefix+"/tasks/a/runs", admin, nil)
	r.Header.Set("Idempotency-Key", "later")
	var started Started
	s.send(t, r).into(t, 202, &started)
	if last := s.starter.runs[len(s.starter.runs)-1]; last.ID != started.ID || started.Created {
		t.Errorf("started %+v, and the engine has %+v", started, last)
	}
}

package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

// taskFlow is what a signed event of a source starts: a task once, which gets
// the body as it was sent, and whose output and files are there afterwards. A
// body is a stranger's, so this one tries to be a command.
func taskFlow(f *faulty, p controlplane.Provider) {
	f.Helper()
	const id = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
	key := []byte("planted-task-key-0123456789abcdef")
	body := `{"type": "build.finished", "text": "$(reboot) {{.Secret}} \u0000 é"}`
	task, source := "report-"+string(p), "sources/"+string(p)+"/default"
	token := f.tokenOf(task, "integrations,tasks,read")
	f.call(token, http.MethodPut, "tasks/"+task, map[string]any{"image": "report:1", "command": []string{"skep", "event"}}, nil)
	f.call(token, http.MethodPut, source, map[string]any{"task": task, "secret": "whsec_" + base64.StdEncoding.EncodeToString(key)}, nil)

	sign := func(key []byte) func(*http.Request) {
		return func(r *http.Request) {
			at := strconv.FormatInt(time.Now().Unix(), 10)
			mac := hmac.New(sha256.New, key)
			fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
			r.Header.Set("Webhook-Id", id)
			r.Header.Set("Webhook-Timestamp", at)
			r.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		}
	}
	f.deliver(p, body, sign([]byte("somebody else's key, as long as that")), http.StatusUnauthorized)
	for range 2 { // the second is a replay
		f.deliver(p, body, sign(key), http.StatusOK)
	}
	var run controlplane.RunID
	f.await("the task of an event ends", func() error {
		runs, _, err := f.store.ListRuns(f.Context(), store.RunFilter{Task: controlplane.Name(task)}, store.Page{})
		switch {
		case err != nil:
			return err
		case len(runs) != 1:
			return fmt.Errorf("%d runs", len(runs))
		case !runs[0].State.Over():
			return errors.New("it is " + string(runs[0].State))
		}
		if run = runs[0].ID; runs[0].State != controlplane.RunSucceeded {
			f.Fatalf("the task is %s: %s", runs[0].State, runs[0].Error)
		}
		return nil
	})
	if got := f.fetch(token, "runs/"+string(run)+"/artefacts/body"); got != body {
		f.Errorf("the task got %q, not %q", got, body)
	}
	want := fmt.Sprintf(`got {"provider":%q,"delivery":%q,"event":"build.finished",`, p, id)
	if got := f.fetch(token, "runs/"+string(run)+"/log/text"); !strings.Contains(got, want) {
		f.Errorf("the log is %q, and has no %s", got, want)
	}
	f.call(token, http.MethodDelete, source, nil, nil)
	if n := f.stored(fmt.Sprintf("run WHERE task = '%s'", task)); n != 1 {
		f.Errorf("the event and its replay made %d runs", n)
	}
}

// fetch is what the API has at a path.
func (p *plane) fetch(token, path string) string {
	p.Helper()
	r, err := http.NewRequestWithContext(p.Context(), http.MethodGet, "http://"+p.address+"/api/v1/"+path, nil)
	if err != nil {
		p.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		p.Fatal(err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		p.Fatalf("GET %s: %s %s %v", path, answer.Status, said, err)
	}
	return string(said)
}

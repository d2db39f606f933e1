package process

import (
	"errors"
	"testing"

	"skep/services/worker"
)

// A job finds its files where it was told to, and may not write there.
func TestJobFiles(t *testing.T) {
	j := newJob(t, "ls=/run/event", "cat=/run/event/body")
	j.Files = map[string][]byte{"body": []byte("$(reboot)"), "delivery.json": []byte("{}")}
	if exit := j.launch(t); exit.Code != 0 {
		t.Errorf("exit %+v: %s", exit, j.all())
	}
	j.said(t, "ls: /run/event body delivery.json")
	j.said(t, `cat: /run/event/body: "$(reboot)"`)

	j = newJob(t, "pwd")
	j.Files = map[string][]byte{"../x": nil}
	if _, err := j.launcher.Launch(t.Context(), j.Job); !errors.Is(err, worker.ErrRefused) {
		t.Errorf("a file that leaves its folder: %v", err)
	}
}

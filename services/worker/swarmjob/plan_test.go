package swarmjob

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"skep/services/worker"
)

// Files of a job are configs of its own, and a job that needs time to end has
// it in its container too.
func TestPlanOfFilesAndGrace(t *testing.T) {
	j := worker.Job{
		Run: "01234567-89ab-7def-8123-456789abcdef", Step: "deploy", Tree: t.TempDir(), Command: []string{"skep", "deploy"}, Grace: 5 * time.Minute,
		Files: map[string][]byte{"body": []byte("$(reboot)"), "empty": nil},
	}
	p, err := newPlan(Launcher{Image: "skep:1"}, j, "launch")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for i, c := range p.container().Configs {
		if c.File.Name == worker.EventFolder+"/body" && bytes.Equal(p.configs[i].Data, j.Files["body"]) && p.configs[i].Labels[labelRun] == string(j.Run) {
			files = append(files, c.File.Name)
		}
	}
	if !slices.Equal(files, []string{"/run/event/body"}) || len(p.configs) != 2 {
		t.Errorf("files %q, %d configs", files, len(p.configs))
	}
	i := slices.Index(p.container().Args, "-grace")
	if i < 0 || p.container().Args[i+1] != "5m0s" || *p.container().StopGracePeriod <= j.Grace {
		t.Errorf("the container gets %q and %v", p.container().Args, *p.container().StopGracePeriod)
	}
	j.Files["body"] = make([]byte, chunkBytes+1)
	if _, err := newPlan(Launcher{Image: "skep:1"}, j, "launch"); !errors.Is(err, worker.ErrRefused) {
		t.Errorf("a file that no config holds: %v", err)
	}
}

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vbauerster/mpb/v8"

	"skep/services/deploy"
)

var deployEvents = []deploy.Event{
	{Stack: "app", Verb: deploy.Began},
	{Stack: "app", Verb: deploy.Created, Subject: "service app_web"},
	{Stack: "app", Verb: deploy.Waiting, Subject: "service app_web", Running: 0, Want: 2, Text: "starting\x1b[2J"},
	{Stack: "app", Verb: deploy.Waiting, Subject: "service app_web", Running: 0, Want: 2, Text: "starting\x1b[2J"},
	{Stack: "app", Verb: deploy.Waiting, Subject: "service app_web", Running: 2, Want: 2},
	{Stack: "app", Verb: deploy.Waiting, Subject: "service app_db", Running: 0, Want: 1},
	{Stack: "app", Verb: deploy.Converged, Subject: "service app_web", Running: 2, Want: 2},
	{Stack: "app", Verb: deploy.Failed, Subject: "service app_db", Text: "3 tasks ended\ntask app_db.1 on node1: failed"},
}

func TestProgressLines(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out)
	for _, e := range deployEvents {
		p.report(e)
	}
	p.close()
	got := out.String()
	if n := strings.Count(got, "0 of 2"); n != 1 {
		t.Errorf("the same was said %d times", n)
	}
	if strings.Contains(got, "\x1b") {
		t.Errorf("a text drives the terminal: %q", got)
	}
	contains(t, got, "app: begins\n", "app: created service app_web\n", "app: service app_web is up\n",
		"app: service app_db failed: 3 tasks ended\n    task app_db.1 on node1: failed\n")
}

// deploying stands in for a deploy, and says on its error output when it is over.
func deploying() {
	p := newProgress(os.Stdout)
	for range 3 {
		for _, e := range deployEvents {
			p.report(e)
		}
	}
	p.close()
	fmt.Fprint(os.Stderr, "over")
}

// Whoever reads what a deploy says may be gone before it is over: of `skep deploy
// | tee log` an interrupt ends tee at once.
func TestProgressOutlivesItsReader(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	reader.Close()
	var said bytes.Buffer
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Args, cmd.Stdout, cmd.Stderr = []string{"deploying"}, writer, &said // TestMain goes by this name
	if err := cmd.Run(); err != nil || said.String() != "over" {
		t.Errorf("%v, it said %q", err, &said)
	}
}

// Bars are drawn by goroutines of their own: whatever is reported meanwhile,
// they end.
func TestProgressBarsEnd(t *testing.T) {
	p := newProgress(io.Discard)
	p.bars = mpb.New(mpb.WithOutput(io.Discard), mpb.WithAutoRefresh(), mpb.WithRefreshRate(time.Millisecond))
	p.out = p.bars
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 50 {
			for _, e := range deployEvents {
				p.report(e)
			}
		}
		p.report(deployEvents[2]) // one that is open when all ends
		p.close()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("it hangs")
	}
}

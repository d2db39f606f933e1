package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"skep/internal/swarmtest"
	"skep/services/controlplane/integration/github/githubtest"
)

// A push deploys, a broken one is told of where it is wrong, a pull request is
// planned, a fork deploys nothing, and what a server left behind the next ends.
func TestPushDeploys(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	first := p.push("main", "ann", map[string]string{"cluster.yaml": cluster, "app/stack.yaml": app("one", "")})
	p.reported(first, "success")
	if got := p.value(); got != "VALUE=one" {
		t.Errorf("after the first push web has %q", got)
	}

	t.Run("a mistake", func(t *testing.T) {
		broken := p.push("main", "ann", map[string]string{"app/stack.yaml": app("two", "    x-ingres: {}\n")})
		report := p.reported(broken, "failure")
		if len(report.Annotations) != 1 || report.Annotations[0].Path != "stacks/app/stack.yaml" || !strings.Contains(report.Annotations[0].Message, "x-ingress") {
			t.Errorf("annotations %+v", report.Annotations)
		}
		if got := p.value(); got != "VALUE=one" {
			t.Errorf("a broken push made web %q", got)
		}
	})

	var number int
	t.Run("a pull request", func(t *testing.T) {
		head := p.push("change", "sam", map[string]string{"app/stack.yaml": app("three", "")})
		number = p.open(githubtest.PullRequest{Head: "change", Base: "main", Author: "sam", Title: "Three"})
		p.reported(head, "success")
		p.said(number, "environment[VALUE]", "`one` | `three`")
		if got := p.value(); got != "VALUE=one" {
			t.Errorf("a pull request made web %q", got)
		}
	})

	t.Run("a command", func(t *testing.T) {
		p.comment(number, "sam", "/skep deploy")
		p.comment(number, "ann", "/skep help")
		p.said(number, "/skep <command>")
		if got := p.value(); got != "VALUE=one" {
			t.Errorf("somebody without write access made web %q", got)
		}
		p.comment(number, "ann", "/skep deploy app")
		if err := swarmtest.Poll(3*time.Minute, func() error {
			if got := p.value(); got != "VALUE=three" {
				return fmt.Errorf("web has %q", got)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})

	t.Run("asked for and cancelled", func(t *testing.T) { p.askedAndCancelled(t, "VALUE=three") })

	t.Run("a server that dies", func(t *testing.T) {
		if err := syscall.Kill(p.server.Pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		next := p.commit("main", "ann", map[string]string{"app/stack.yaml": app("four", "")}) // nobody listens
		p.start()
		for _, d := range p.hub.Deliveries() {
			if err := p.hub.Redeliver(t.Context(), d.ID); err != nil { // as GitHub's page offers: old ones are replays
				t.Fatal(err)
			}
		}
		p.reported(next, "success")
		if got := p.value(); got != "VALUE=four" {
			t.Errorf("web has %q", got)
		}
	})

	if said := p.log.String(); strings.Contains(said, hookSecret) || strings.Contains(said, "PRIVATE KEY") || strings.Contains(said, "ghs_") {
		t.Error("the log holds a secret")
	}
}

// said waits for a comment of Skep's.
func (p *plane) said(number int, want ...string) {
	p.Helper()
	err := swarmtest.Poll(2*time.Minute, func() error {
		comments := p.hub.Comments(repository, number)
		if !slices.ContainsFunc(comments, func(s githubtest.Said) bool {
			return !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(s.Body, w) })
		}) {
			return fmt.Errorf("no comment of %s says %q: %+v", strconv.Itoa(number), want, comments)
		}
		return nil
	})
	if err != nil {
		p.Error(err)
	}
}

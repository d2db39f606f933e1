// Package forgetest has what every forge holds to. A provider's client passes it
// over a fake that follows the provider's published contract.
package forgetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
)

// Fake is a provider's stand-in, with one repository whose default branch is
// main. The suite acts as the provider's users and looks at what they see.
type Fake interface {
	// Push commits files, by path, to a branch of the repository. A branch that
	// is new starts at main, if there is one.
	Push(b controlplane.Branch, files map[string]string) (controlplane.Commit, error)
	OpenPullRequest(PullRequest) (number int, err error)
	ClosePullRequest(number int) error
	// AddComment is another user's. It returns the provider's id.
	AddComment(number int, author, body string) (id string, err error)
	// Comments are all on a pull request, the oldest first.
	Comments(number int) []controlplane.Comment
	// Reactions has the login of each who reacted, once for each reaction.
	Reactions(number int, comment string) []string
	Grant(login string, p controlplane.Permission)
	// Reports are what the page of a commit shows: the newest of each name.
	Reports(c controlplane.Commit) []Report
	// ReplaceArchive sets what the archive of a commit is, as nothing that Git
	// makes is hostile enough.
	ReplaceArchive(c controlplane.Commit, content []byte)
	// Expire ends short-lived tokens that are out. Credentials stay good.
	Expire()
	// Revoke ends the credentials too.
	Revoke()
	// LimitRate turns every request down until so much time has passed.
	LimitRate(after time.Duration)
	// Outage answers the next requests with a 502.
	Outage(requests int)
	// Requests counts what came in, whatever the answer.
	Requests() int
}

// PullRequest is one to open. Head exists, unless Fork is set: then it is made
// in a repository of the author's.
type PullRequest struct {
	Head   controlplane.Branch
	Base   controlplane.Branch
	Author string
	Labels []string
	Fork   bool
}

// Report is one as it shows.
type Report struct {
	Name        string
	State       string // the provider's word
	Annotations []controlplane.Annotation
}

// Subject is a client over its fake.
type Subject struct {
	controlplane.Forge
	Fake       Fake
	Repository controlplane.Repository
	Self       string // the login that the credentials belong to
	States     map[controlplane.ReportState]string
	// Secrets are what no error and no line of the log may hold.
	Secrets []string
	// Without are features that the provider does not have.
	Without []Feature
}

// Feature is one that not every provider has.
type Feature string

const (
	Annotations Feature = "annotations"
	Reactions   Feature = "reactions"
	Labels      Feature = "labels"
	Forks       Feature = "forks"
	// Verbatim archives come as the provider made them, not converted.
	Verbatim Feature = "verbatim archives"
)

func (s Subject) has(f Feature) bool { return !slices.Contains(s.Without, f) }

// Open makes a subject of its own for each test.
type Open func(*testing.T, integration.Options) Subject

// Run runs the suite. The options have the suite's clock and log, and allow
// servers on loopback.
func Run(t *testing.T, open Open) {
	for _, test := range []struct {
		name string
		run  func(*suite, *testing.T)
	}{
		{"archive", (*suite).archive},
		{"hostile archive", (*suite).hostileArchive},
		{"head", (*suite).head},
		{"pull request", (*suite).pullRequest},
		{"permission", (*suite).permission},
		{"comment", (*suite).comment},
		{"comment among many", (*suite).commentAmongMany},
		{"comment of a stranger", (*suite).commentOfAStranger},
		{"comment too long", (*suite).commentTooLong},
		{"reaction", (*suite).reaction},
		{"report", (*suite).report},
		{"annotations", (*suite).annotations},
		{"not found", (*suite).notFound},
		{"expired", (*suite).expired},
		{"denied", (*suite).denied},
		{"rate limit", (*suite).rateLimit},
		{"outage", (*suite).outage},
		{"cancelled", (*suite).cancelled},
	} {
		t.Run(test.name, func(t *testing.T) {
			clock, log := NewClock(), &bytes.Buffer{}
			handler := slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})
			s := &suite{clock: clock, Subject: open(t, integration.Options{Log: slog.New(handler), Loopback: true, Now: clock.Now, Wait: clock.Wait})}
			test.run(s, t)
			s.clean(t, "the log", log.String())
			if s.Fake.Requests() > 0 && !strings.Contains(log.String(), "provider request") {
				t.Errorf("nothing was logged of %d requests", s.Fake.Requests())
			}
		})
	}
}

type suite struct {
	Subject
	clock *Clock
}

// clean fails if a text holds a secret.
func (s *suite) clean(t *testing.T, what, text string) {
	t.Helper()
	for _, secret := range s.Secrets {
		if secret == "" || strings.Contains(text, secret) {
			t.Errorf("%s holds a secret: %s", what, strings.ReplaceAll(text, secret, "<<<SECRET>>>"))
		}
	}
}

// is fails unless err is target, and holds no secret.
func (s *suite) is(t *testing.T, what string, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: %v; want %v", what, err, target)
	}
	if err != nil {
		s.clean(t, "an error", fmt.Sprintf("%v %+v %#v", err, err, err))
	}
}

func (s *suite) push(t *testing.T, b controlplane.Branch, files map[string]string) controlplane.Commit {
	t.Helper()
	c, err := s.Fake.Push(b, files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pull opens a pull request of its own.
func (s *suite) pull(t *testing.T) int {
	t.Helper()
	s.push(t, "main", map[string]string{"a": "one\n"})
	s.push(t, "work", map[string]string{"a": "two\n"})
	number, err := s.Fake.OpenPullRequest(PullRequest{Head: "work", Base: "main", Author: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	return number
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// calls are one of each read.
func (s *suite) calls(ctx context.Context, r controlplane.Repository, c controlplane.Commit, number int) map[string]error {
	_, archive := s.Archive(ctx, r, c)
	_, head := s.Head(ctx, r, "main")
	_, pull := s.PullRequest(ctx, r, number)
	return map[string]error{"archive": archive, "head": head, "pull request": pull}
}

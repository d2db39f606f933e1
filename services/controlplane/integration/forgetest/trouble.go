package forgetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"skep/services/controlplane"
)

// expired: a token that ended early is got again, unseen.
func (s *suite) expired(t *testing.T) {
	c := s.push(t, "main", map[string]string{"a": "b"})
	for range 3 {
		if _, err := s.Head(t.Context(), s.Repository, "main"); err != nil {
			t.Fatal(err)
		}
		s.Fake.Expire()
	}
	must(t, s.Report(t.Context(), s.Repository, c, controlplane.Report{Name: "skep/check", State: controlplane.ReportSuccess}))
	s.Fake.Expire()
	must(t, s.Report(t.Context(), s.Repository, c, controlplane.Report{Name: "skep/check", State: controlplane.ReportFailure}))
	s.clock.Advance(48 * time.Hour)
	if _, err := s.Test(t.Context()); err != nil {
		t.Errorf("after two days: %v", err)
	}
}

func (s *suite) denied(t *testing.T) {
	c, number := s.push(t, "main", map[string]string{"a": "b"}), 0
	who, err := s.Test(t.Context())
	if err != nil || who == "" {
		t.Fatalf("the credentials are %q, %v", who, err)
	}
	s.clean(t, "who they are", who)
	number = s.pull(t)
	s.Fake.Revoke()
	_, err = s.Test(t.Context())
	s.is(t, "the test of revoked credentials", err, controlplane.ErrDenied)
	for what, err := range s.calls(t.Context(), s.Repository, c, number) {
		s.is(t, what+" with revoked credentials", err, controlplane.ErrDenied)
	}
	s.is(t, "a comment with revoked credentials", s.Comment(t.Context(), s.Repository, number, "plan", "x"), controlplane.ErrDenied)
	s.is(t, "a report with revoked credentials", s.Report(t.Context(), s.Repository, c, controlplane.Report{Name: "x", State: controlplane.ReportPending}), controlplane.ErrDenied)
	if got := s.mine(number); len(got) != 0 {
		t.Errorf("it commented: %v", got)
	}
}

func (s *suite) rateLimit(t *testing.T) {
	s.push(t, "main", map[string]string{"a": "b"})
	_, err := s.Head(t.Context(), s.Repository, "main")
	must(t, err)

	// A short one is waited for.
	s.Fake.LimitRate(3 * time.Second)
	if _, err := s.Head(t.Context(), s.Repository, "main"); err != nil {
		t.Errorf("after a short limit: %v", err)
	}
	if got := s.clock.Waited(); got < 3*time.Second || got > 30*time.Second {
		t.Errorf("it waited %s", got)
	}

	// A long one is the caller's, and nobody asks meanwhile.
	s.Fake.LimitRate(20 * time.Minute)
	_, err = s.Head(t.Context(), s.Repository, "main")
	s.later(t, err, 20*time.Minute)
	asked := s.Fake.Requests()
	s.clock.Advance(10 * time.Minute)
	_, err = s.Head(t.Context(), s.Repository, "main")
	s.later(t, err, 10*time.Minute)
	_, err = s.PullRequest(t.Context(), s.Repository, 1)
	s.later(t, err, 10*time.Minute)
	if got := s.Fake.Requests(); got != asked {
		t.Errorf("%d requests went out while the limit held", got-asked)
	}
	s.clock.Advance(10*time.Minute + time.Second)
	if _, err := s.Head(t.Context(), s.Repository, "main"); err != nil {
		t.Errorf("after the limit: %v", err)
	}
}

func (s *suite) later(t *testing.T, err error, most time.Duration) {
	t.Helper()
	var later *controlplane.RetryError
	if !errors.As(err, &later) || later.After > most || later.After < most-time.Minute {
		t.Errorf("%v (%+v); want to come back in %s", err, later, most)
	}
	s.is(t, "a rate limit", err, err)
}

func (s *suite) outage(t *testing.T) {
	want := s.push(t, "main", map[string]string{"a": "b"})
	number := s.pull(t)
	s.Fake.Outage(2)
	if got, err := s.Head(t.Context(), s.Repository, "main"); err != nil || got == "" {
		t.Errorf("after two failures: %s, %v", got, err)
	}
	s.Fake.Outage(1000)
	_, err := s.Archive(t.Context(), s.Repository, want)
	var later *controlplane.RetryError
	if !errors.As(err, &later) || later.After <= 0 {
		t.Errorf("a server that is down: %v; want a RetryError", err)
	}
	s.is(t, "an outage", err, err)
	if err := s.Comment(t.Context(), s.Repository, number, "plan", "x"); !errors.As(err, &later) {
		t.Errorf("a comment while the server is down: %v; want a RetryError", err)
	}
	s.Fake.Outage(0)
	must(t, s.Comment(t.Context(), s.Repository, number, "plan", "x"))
	if got := s.mine(number); len(got) != 1 {
		t.Errorf("there are %d comments", len(got))
	}
}

func (s *suite) cancelled(t *testing.T) {
	c := s.push(t, "main", map[string]string{"a": "b"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for what, err := range s.calls(ctx, s.Repository, c, 1) {
		s.is(t, what, err, context.Canceled)
	}
}

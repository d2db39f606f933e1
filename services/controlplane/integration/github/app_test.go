package github_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/integration/forgetest"
	"skep/services/controlplane/integration/github"
	"skep/services/controlplane/integration/github/githubtest"
)

// asApp is a client over a server that has a commit and a pull request.
func asApp(t *testing.T, server func() time.Time, o integration.Options) (*githubtest.Server, *github.Forge, controlplane.Commit) {
	t.Helper()
	s := start(t, githubtest.Options{App: newApp(), Now: server})
	f := open(t, appSettings(s), map[string]string{github.PrivateKey: string(keyPEM())}, o)
	c, err := s.Push(t.Context(), repo, "main", "ada", map[string]githubtest.File{"a": {Content: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Push(t.Context(), repo, "work", "ada", map[string]githubtest.File{"a": {Content: "c"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenPullRequest(t.Context(), repo, githubtest.PullRequest{Head: "work", Base: "main", Author: "ada"}); err != nil {
		t.Fatal(err)
	}
	return s, f, c
}

func options(c *forgetest.Clock) integration.Options {
	return integration.Options{Loopback: true, Now: c.Now, Wait: c.Wait}
}

func head(t *testing.T, f *github.Forge) {
	t.Helper()
	if _, err := f.Head(t.Context(), repo, "main"); err != nil {
		t.Fatal(err)
	}
}

// TestOneRefresh: many at once get one token between them.
func TestOneRefresh(t *testing.T) {
	clock := forgetest.NewClock()
	s, f, _ := asApp(t, clock.Now, options(clock))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := f.Head(t.Context(), repo, "main"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := len(s.Tokens()); got != 1 || s.Requests() != 21 {
		t.Errorf("%d tokens and %d requests for 20 calls", got, s.Requests())
	}
	// Refused all at once, they get one more.
	s.Expire()
	for range 20 {
		all.Go(func() {
			if _, err := f.Head(t.Context(), repo, "main"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := len(s.Tokens()); got != 2 {
		t.Errorf("%d tokens after one expiry", got)
	}
}

// TestTokensAreNarrow: each token is for the repository and for what is done.
func TestTokensAreNarrow(t *testing.T) {
	clock := forgetest.NewClock()
	s, f, c := asApp(t, clock.Now, options(clock))
	if err := s.CreateRepository(t.Context(), "octo/other"); err != nil {
		t.Fatal(err)
	}
	comment, err := s.Comment(t.Context(), repo, 1, "ada", "/skep plan")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		head(t, f)
		if _, err := f.Permission(t.Context(), repo, "ada"); err != nil {
			t.Fatal(err)
		}
		if err := f.Comment(t.Context(), repo, 1, "plan", "x"); err != nil {
			t.Fatal(err)
		}
		if err := f.React(t.Context(), repo, 1, fmt.Sprint(comment)); err != nil {
			t.Fatal(err)
		}
		if err := f.Report(t.Context(), repo, c, controlplane.Report{Name: "x", State: controlplane.ReportPending}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, token := range s.Tokens() {
		if !slices.Equal(token.Repositories, []controlplane.Repository{repo}) {
			t.Errorf("a token is good for %v", token.Repositories)
		}
		var words []string
		for _, name := range slices.Sorted(maps.Keys(token.Permissions)) {
			words = append(words, name+":"+token.Permissions[name])
		}
		got = append(got, strings.Join(words, " "))
	}
	slices.Sort(got)
	want := []string{"checks:write metadata:read", "contents:read metadata:read pull_requests:read", "issues:write metadata:read", "metadata:read pull_requests:write"}
	if !slices.Equal(got, want) {
		t.Errorf("the tokens may %q; want %q", got, want)
	}
	_, err = f.Head(t.Context(), "octo/other", "main")
	if !errors.Is(err, controlplane.ErrNotFound) || len(s.Tokens()) != 5 {
		t.Errorf("another repository: %v with %d tokens", err, len(s.Tokens()))
	}
}

// TestTokenIsKept until shortly before its end.
func TestTokenIsKept(t *testing.T) {
	clock := forgetest.NewClock()
	s, f, _ := asApp(t, clock.Now, options(clock))
	for _, step := range []struct {
		pass time.Duration
		want int // tokens by then
	}{{0, 1}, {57 * time.Minute, 1}, {2 * time.Minute, 2}, {57 * time.Minute, 2}, {time.Hour, 3}} {
		clock.Advance(step.pass)
		head(t, f)
		if got := len(s.Tokens()); got != step.want {
			t.Errorf("after %s more there were %d tokens, want %d", step.pass, got, step.want)
		}
	}
}

// TestClockSkew: our clock is wrong, and nothing expires early or late for it.
func TestClockSkew(t *testing.T) {
	for _, skew := range []time.Duration{-48 * time.Hour, -20 * time.Minute, -30 * time.Second, 30 * time.Second, 8 * time.Minute, time.Hour} {
		right := forgetest.NewClock()
		o := options(right)
		o.Now = func() time.Time { return right.Now().Add(skew) }
		s, f, _ := asApp(t, right.Now, o)
		head(t, f)
		if got := s.Requests(); got > 3 {
			t.Errorf("%s off: %d requests for the first call", skew, got)
		}
		right.Advance(50 * time.Minute)
		head(t, f)
		if got := len(s.Tokens()); got != 1 {
			t.Errorf("%s off: %d tokens in 50 minutes", skew, got)
		}
		right.Advance(20 * time.Minute)
		before := s.Requests()
		head(t, f)
		if got := s.Requests() - before; len(s.Tokens()) != 2 || got != 2 {
			t.Errorf("%s off: %d tokens, and %d requests for the last call", skew, len(s.Tokens()), got)
		}
	}
}

// TestRefusedForGood: a token that is refused is got again once, and no more.
func TestRefusedForGood(t *testing.T) {
	var tokens, calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, `{"token": "ghs_%d", "expires_at": %q}`, tokens.Add(1), time.Now().Add(time.Hour).Format(time.RFC3339))
			return
		}
		calls.Add(1)
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"message": "Bad credentials"}`)
	}))
	defer server.Close()
	f := open(t, integration.Settings{github.BaseURL: server.URL, github.AppID: "1", github.Installation: "2"},
		map[string]string{github.PrivateKey: string(keyPEM())}, integration.Options{Loopback: true})
	_, err := f.Head(t.Context(), repo, "main")
	if !errors.Is(err, controlplane.ErrDenied) || tokens.Load() != 2 || calls.Load() != 2 {
		t.Errorf("%v after %d tokens and %d calls", err, tokens.Load(), calls.Load())
	}
}

// TestWaitForRefresh: who waits for another's refresh can give up, and one that
// gave up takes nobody along.
func TestWaitForRefresh(t *testing.T) {
	asked, release := make(chan struct{}, 2), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			asked <- struct{}{}
			<-release
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, `{"token": "ghs_1", "expires_at": %q}`, time.Now().Add(time.Hour).Format(time.RFC3339))
			return
		}
		fmt.Fprintf(w, `{"object": {"sha": %q}}`, strings.Repeat("a", 40))
	}))
	defer server.Close()
	f := open(t, integration.Settings{github.BaseURL: server.URL, github.AppID: "1", github.Installation: "2"},
		map[string]string{github.PrivateKey: string(keyPEM())}, integration.Options{Loopback: true})
	first := make(chan error, 1)
	go func() {
		_, err := f.Head(t.Context(), repo, "main")
		first <- err
	}()
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() {
		_, err := f.Head(ctx, repo, "main")
		second <- err
	}()
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up got %v", err)
	}
	close(release)
	if err := <-first; err != nil || len(asked) != 0 {
		t.Errorf("the first got %v, and %d more asked", err, len(asked))
	}
}

func TestTest(t *testing.T) {
	clock := forgetest.NewClock()
	s, f, _ := asApp(t, clock.Now, options(clock))
	if who, err := f.Test(t.Context()); err != nil || who != "App skep-test, installed for skep-hq" {
		t.Errorf("the App is %q, %v", who, err)
	}
	for name, test := range map[string]struct {
		settings integration.Settings
		want     string
	}{
		"another App":       {integration.Settings{github.BaseURL: s.URL(), github.AppID: "4712", github.Installation: "99"}, "is private_key a key of the App 4712?"},
		"no installation":   {integration.Settings{github.BaseURL: s.URL(), github.AppID: "4711", github.Installation: "98"}, "is 98 an installation of the App 4711"},
		"no API, but pages": {integration.Settings{github.BaseURL: s.URL() + "api/v3", github.AppID: "4711", github.Installation: "99"}, "is 99 an installation"},
	} {
		f := open(t, test.settings, map[string]string{github.PrivateKey: string(keyPEM())}, options(clock))
		_, permission := f.Permission(t.Context(), repo, "ada")
		_, who := f.Test(t.Context())
		for what, err := range map[string]error{"permission": permission, "test": who} {
			if !errors.Is(err, controlplane.ErrDenied) || errors.Is(err, controlplane.ErrNotFound) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s, %s: %v; want %q", name, what, err, test.want)
			}
		}
	}
	narrow := newApp()
	narrow.Permissions = map[string]string{"contents": "read", "pull_requests": "read", "metadata": "read"}
	s = start(t, githubtest.Options{App: narrow, Now: clock.Now})
	f = open(t, appSettings(s), map[string]string{github.PrivateKey: string(keyPEM())}, options(clock))
	_, err := f.Test(t.Context())
	if !errors.Is(err, controlplane.ErrDenied) || !strings.Contains(err.Error(), "lacks pull_requests: write, issues: write, checks: write: grant it") {
		t.Errorf("an App that may too little: %v", err)
	}
	err = f.Comment(t.Context(), repo, 1, "plan", "x")
	if !errors.Is(err, controlplane.ErrDenied) || !strings.Contains(err.Error(), "not granted to this installation") || !strings.Contains(err.Error(), "checks: write") {
		t.Errorf("a comment of an App that may not: %v", err)
	}
}

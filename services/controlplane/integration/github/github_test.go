package github_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/integration/forgetest"
	"skep/services/controlplane/integration/github"
	"skep/services/controlplane/integration/github/githubtest"
)

func TestFields(t *testing.T) {
	registry := integration.NewRegistry(integration.Options{}, github.Driver())
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(small)}))
	app := integration.Settings{github.AppID: "1", github.Installation: "2"}
	for name, test := range map[string]struct {
		settings integration.Settings
		values   map[string]string
		want     []string // in the error; none: it is fine
	}{
		"app":        {app, map[string]string{github.PrivateKey: string(keyPEM())}, nil},
		"enterprise": {integration.Settings{github.AppID: "1", github.Installation: "2", github.BaseURL: "https://github.example.com/api/v3"}, map[string]string{github.PrivateKey: "op://vault/item/field"}, nil},
		"user":       {nil, map[string]string{github.Token: token}, nil},
		"nothing":    {nil, nil, []string{"nothing to sign in with: set app_id"}},
		"both":       {app, map[string]string{github.PrivateKey: string(keyPEM()), github.Token: token}, []string{"token: there is an App too"}},
		"half":       {integration.Settings{github.AppID: "1"}, map[string]string{github.PrivateKey: string(keyPEM())}, []string{"installation_id: is missing"}},
		"no key":     {app, nil, []string{"private_key: is missing"}},
		"bad key":    {app, map[string]string{github.PrivateKey: token}, []string{"private_key: is no RSA key in PEM"}},
		"weak key":   {app, map[string]string{github.PrivateKey: weak}, []string{"private_key: has 1024 bits"}},
		"many": {integration.Settings{github.AppID: "x", github.BaseURL: "http://github.example.com", "colour": "red"}, map[string]string{github.Token: "a b " + token},
			[]string{"app_id: ", "base_url: must begin with https://", "colour: github has no such field", "token: holds a space"}},
		"swapped": {integration.Settings{github.Token: token}, map[string]string{github.AppID: "1"}, []string{"token: is a credential", "app_id: is a setting"}},
	} {
		values := integration.Values{}
		for field, value := range test.values {
			values[field] = secrets.NewValue([]byte(value))
		}
		err := registry.Check(controlplane.GitHub, test.settings, values)
		if (err == nil) != (test.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range test.want {
			if err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), token)) {
				t.Errorf("%s: %v; want %q", name, err, want)
			}
		}
	}
	if _, err := registry.Forge(controlplane.GitHub, nil, nil); err != nil {
		t.Errorf("without settings the address is GitHub's: %v", err)
	}
}

// TestPlanted: a server repeats all that it is sent, in every way that it can
// fail, and nothing of it shows.
func TestPlanted(t *testing.T) {
	const fresh = "ghs_plantedInstallationToken"
	planted := []string{token, fresh, "eyJ", "BEGIN RSA", string(keyPEM()[50:90])}
	for _, status := range []int{200, 201, 202, 301, 302, 400, 401, 403, 404, 409, 410, 422, 429, 451, 500, 502, 503} {
		for _, way := range []string{"App", "user"} {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/access_tokens") && status != 422 && status != 403 {
					w.WriteHeader(http.StatusCreated)
					fmt.Fprintf(w, `{"token": %q, "expires_at": %q}`, fresh, time.Now().Add(time.Hour).Format(time.RFC3339))
					return
				}
				body, _ := io.ReadAll(r.Body)
				said := fmt.Sprint(r.Header, r.URL, string(body), strings.Repeat(r.Header.Get("Authorization"), 30))
				w.Header().Set("Location", "http://127.0.0.1:1/?token="+strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
				w.WriteHeader(status)
				_ = json.NewEncoder(w).Encode(map[string]any{"message": said, "errors": []map[string]string{{"message": said, "field": said}}})
			}))
			log := &bytes.Buffer{}
			clock := forgetest.NewClock()
			o := integration.Options{Loopback: true, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), Wait: clock.Wait}
			settings, values := integration.Settings{github.BaseURL: server.URL}, map[string]string{github.Token: token}
			if way == "App" {
				settings[github.AppID], settings[github.Installation] = "1", "2"
				values = map[string]string{github.PrivateKey: string(keyPEM())}
			}
			f := open(t, settings, values, o)
			for what, err := range everything(t.Context(), f) {
				text := fmt.Sprintf("%v %+v %#v %q", err, err, err, err)
				for cause := err; cause != nil; cause = errors.Unwrap(cause) {
					text += fmt.Sprintf("%+v %#v", cause, cause)
				}
				for _, secret := range planted {
					if strings.Contains(text, secret) {
						t.Errorf("%s, %d, %s: the error holds %q: %s", way, status, what, secret, text)
					}
				}
				if err == nil && status >= 300 {
					t.Errorf("%s, %d, %s: no error", way, status, what)
				}
			}
			server.Close()
			for _, secret := range planted {
				if strings.Contains(log.String(), secret) {
					t.Errorf("%s, %d: the log holds %q", way, status, secret)
				}
			}
			if log.Len() == 0 {
				t.Errorf("%s, %d: nothing was logged", way, status)
			}
		}
	}
}

// everything calls each method once.
func everything(ctx context.Context, f *github.Forge) map[string]error {
	c := controlplane.Commit(strings.Repeat("a", 40))
	body, archive := f.Archive(ctx, repo, c)
	if body != nil {
		body.Close()
	}
	_, head := f.Head(ctx, repo, "main")
	_, pull := f.PullRequest(ctx, repo, 1)
	_, test := f.Test(ctx)
	errs := map[string]error{
		"archive": archive, "head": head, "pull request": pull, "test": test,
		"comment": f.Comment(ctx, repo, 1, "plan", "x"),
		"react":   f.React(ctx, repo, 1, "1"),
		"report":  f.Report(ctx, repo, c, controlplane.Report{Name: "x", State: controlplane.ReportPending}),
	}
	return errs
}

// TestArchiveAddress: where GitHub sends for an archive is GitHub's to say, but
// not all of it is gone to, and nowhere with credentials.
func TestArchiveAddress(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("Referer") != "" {
			t.Errorf("another server got %v", r.Header)
		}
		if r.URL.Path == "/again" {
			http.Redirect(w, r, "/archive", http.StatusFound)
			return
		}
		fmt.Fprint(w, "the archive")
	}))
	defer other.Close()
	target := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/codeload/x" { // an appliance has it on the same host, and needs no credentials there
			fmt.Fprint(w, "of our own")
			if r.Header.Get("Authorization") != "" {
				t.Error("credentials go above the base")
			}
			return
		}
		w.Header().Set("Location", target)
		w.WriteHeader(http.StatusFound)
	}))
	defer server.Close()
	clock := forgetest.NewClock()
	f := open(t, integration.Settings{github.BaseURL: server.URL + "/api/v3"}, map[string]string{github.Token: token}, options(clock))
	for address, want := range map[string]string{
		other.URL + "/archive?token=query-token": "the archive", "/codeload/x?token=query-token": "of our own",
		"": "", "http://169.254.169.254/latest/meta-data/?token=query-token": "", "http://10.255.255.1/?token=query-token": "", "file:///etc/passwd": "",
		"gopher://x/?token=query-token": "", "://%zz?token=query-token": "", "http://\x7f/?token=query-token": "", other.URL + "/again?token=query-token": "",
	} {
		target = address
		body, err := f.Archive(t.Context(), repo, controlplane.Commit(strings.Repeat("a", 40)))
		if (err == nil) != (want != "") || err != nil && strings.Contains(err.Error(), "query-token") {
			t.Errorf("%s: %v", address, err)
		}
		if strings.HasPrefix(address, "http://169") || strings.HasPrefix(address, "http://10.") {
			if !errors.Is(err, integration.ErrRefused) {
				t.Errorf("%s: %v; want ErrRefused", address, err)
			}
		}
		if err != nil {
			continue
		}
		got, err := io.ReadAll(body)
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", address, got, err)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestNames: what becomes part of a path is held to GitHub's names.
func TestNames(t *testing.T) {
	clock := forgetest.NewClock()
	s, f, c := asApp(t, clock.Now, options(clock))
	head(t, f)
	before := s.Requests()
	for _, r := range []controlplane.Repository{"", "octo", "octo/", "/homelab", "octo/..", "../octo", "octo/./x", "octo/home/lab", "octo/home?lab", "octo/home#lab", "octo/h%2e", "octo/home lab", "octo/h\u00f6me"} {
		if _, err := f.Archive(t.Context(), r, c); err == nil {
			t.Errorf("repository %q has an archive", r)
		}
	}
	for _, bad := range []controlplane.Commit{"", "main", "HEAD", c[:7], c + "/..", "../" + c} {
		if _, err := f.Archive(t.Context(), repo, bad); err == nil {
			t.Errorf("commit %q has an archive", bad)
		}
		if err := f.Report(t.Context(), repo, bad, controlplane.Report{Name: "x"}); err == nil {
			t.Errorf("commit %q takes a report", bad)
		}
	}
	for _, bad := range []controlplane.Branch{"../x", "a..b", "a b", "-x"} {
		if _, err := f.Head(t.Context(), repo, bad); err == nil {
			t.Errorf("branch %q has a head", bad)
		}
	}
	for _, key := range []string{"", "a b", "a--b", "a -->", "A", "a\n", "-a", "a-"} {
		if err := f.Comment(t.Context(), repo, 1, key, "x"); err == nil {
			t.Errorf("key %q has a comment", key)
		}
	}
	if got := s.Requests(); got != before {
		t.Errorf("%d requests were made", got-before)
	}
}

// TestSecondaryLimit: GitHub may say nothing of how long.
func TestSecondaryLimit(t *testing.T) {
	for _, how := range []githubtest.Secondary{{Status: 403, Silent: true}, {Status: 429, Silent: true}, {Status: 429}} {
		clock := forgetest.NewClock()
		s, f, _ := asApp(t, clock.Now, options(clock))
		head(t, f)
		s.LimitSecondary(5*time.Minute, how)
		_, err := f.Head(t.Context(), repo, "main")
		want := 5 * time.Minute
		if how.Silent {
			want = time.Minute
		}
		var later *controlplane.RetryError
		if !errors.As(err, &later) || later.After != want {
			t.Errorf("%+v: %v, %+v; want %s", how, err, later, want)
		}
	}
}

// TestSpentLimit: after the last request of the hour nothing is asked.
func TestSpentLimit(t *testing.T) {
	clock := forgetest.NewClock()
	s, f, c := asApp(t, clock.Now, options(clock))
	head(t, f)
	s.Leave(1, 30*time.Minute)
	head(t, f)
	before := s.Requests()
	_, err := f.Archive(t.Context(), repo, c) // by another client of ours
	var later *controlplane.RetryError
	if !errors.As(err, &later) || later.After != 30*time.Minute || s.Requests() != before {
		t.Errorf("%v (%+v) after %d requests", err, later, s.Requests()-before)
	}
}

// TestTwoComments: two processes wrote at once; one comment stays.
func TestTwoComments(t *testing.T) {
	clock := forgetest.NewClock()
	s, f, _ := asApp(t, clock.Now, options(clock))
	say := func(text string) {
		t.Helper()
		if err := f.Comment(t.Context(), repo, 1, "plan", text); err != nil {
			t.Fatal(err)
		}
	}
	say("one")
	marked := s.Comments(repo, 1)[0]
	if _, err := s.Comment(t.Context(), repo, 1, "skep-test[bot]", marked.Body); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Comment(t.Context(), repo, 1, "mallory", marked.Body); err != nil {
		t.Fatal(err)
	}
	say("two")
	got := s.Comments(repo, 1)
	if len(got) != 2 || got[0].ID != marked.ID || !strings.Contains(got[0].Body, "two") || got[1].Author != "mallory" {
		t.Errorf("there are %v", got)
	}
	// What says the same already is left alone.
	before := s.Requests()
	say("two")
	if got := s.Requests() - before; got != 1 {
		t.Errorf("%d requests to change nothing", got)
	}
}

// TestLostAnswers: whichever request of a report or a comment is lost, before or
// after it had its effect, doing it again leaves one whole.
func TestLostAnswers(t *testing.T) {
	annotations := make([]controlplane.Annotation, 120)
	for i := range annotations {
		annotations[i] = controlplane.Annotation{Path: "a", Line: i + 1, Message: fmt.Sprint(i)}
	}
	report := controlplane.Report{Name: "skep/check", State: controlplane.ReportFailure, Annotations: annotations}
	other := controlplane.Report{Name: "skep/check", State: controlplane.ReportSuccess, Annotations: annotations[:60]}
	for skip := range 5 {
		for _, lost := range []bool{false, true} {
			for _, next := range []controlplane.Report{report, other} {
				clock := forgetest.NewClock()
				s, f, c := asApp(t, clock.Now, options(clock))
				// Tokens are got before.
				if err := f.Report(t.Context(), repo, c, controlplane.Report{Name: "skep/check", State: controlplane.ReportPending}); err != nil {
					t.Fatal(err)
				}
				if err := f.Comment(t.Context(), repo, 1, "plan", "x"); err != nil {
					t.Fatal(err)
				}
				s.Break(skip, lost)
				_ = f.Report(t.Context(), repo, c, report) // the crash
				s.Outage(0)
				if err := f.Report(t.Context(), repo, c, next); err != nil {
					t.Fatal(err)
				}
				got := s.Reports(repo, c)
				if len(got) != 1 || len(got[0].Annotations) != len(next.Annotations) || s.Unfinished(repo, c) != 0 {
					t.Errorf("request %d, lost %t: %d annotations of %d, %d unfinished", skip, lost, len(got[0].Annotations), len(next.Annotations), s.Unfinished(repo, c))
				}
				s.Break(skip, lost)
				_ = f.Comment(t.Context(), repo, 1, "preview", "y")
				s.Outage(0)
				if err := f.Comment(t.Context(), repo, 1, "preview", "z"); err != nil {
					t.Fatal(err)
				}
				if said := s.Comments(repo, 1); len(said) != 2 || !strings.Contains(said[1].Body, "z") {
					t.Errorf("request %d, lost %t: %v", skip, lost, said)
				}
			}
		}
	}
}

// TestManyAnnotations: what is too much is counted.
func TestManyAnnotations(t *testing.T) {
	clock := forgetest.NewClock()
	s, f, c := asApp(t, clock.Now, options(clock))
	report := controlplane.Report{Name: "skep/check", State: controlplane.ReportFailure, Summary: strings.Repeat("s", 70_000), Annotations: make([]controlplane.Annotation, 1234)}
	for i := range report.Annotations {
		report.Annotations[i] = controlplane.Annotation{Path: "/a", Message: strings.Repeat("m", 70_000*(i%40/39)) + "m"}
	}
	if err := f.Report(t.Context(), repo, c, report); err != nil {
		t.Fatal(err)
	}
	got := s.Reports(repo, c)[0]
	if len(got.Annotations) != 1000 || got.Annotations[0].Path != "a" || !strings.Contains(got.Summary, "234 more problems") {
		t.Errorf("%d annotations, the summary ends in %q", len(got.Annotations), got.Summary[len(got.Summary)-60:])
	}
}

package secretdriver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"skep/secrets"
)

// source answers with "value of <reference>", or with an error.
type source struct {
	mu    sync.Mutex
	err   error
	wait  bool             // until ctx ends
	fails map[string]error // by reference
	reads int
	round int // part of the value
}

func (s *source) Versions(context.Context, []secrets.Reference) secrets.Answers { panic("not asked") }

func (s *source) Read(ctx context.Context, refs []secrets.Reference) secrets.Answers {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if s.wait {
		<-ctx.Done()
		return secrets.Fail(refs, fmt.Errorf("%w: %w", secrets.ErrUnavailable, ctx.Err()))
	}
	if s.err != nil {
		return secrets.Fail(refs, s.err)
	}
	out := secrets.Answers{}
	for _, r := range refs {
		if err := s.fails[r.String()]; err != nil {
			out[r] = secrets.Answer{Err: err}
			continue
		}
		out[r] = secrets.Answer{Item: secrets.Item{ID: "id", Version: "1"}, Value: secrets.NewValue(fmt.Appendf(nil, "value of %s #%d", r, s.round))}
	}
	return out
}

func newDriver(s *source) (*Driver, *bytes.Buffer) {
	var log bytes.Buffer
	return &Driver{Source: s, Policy: LabelsOnly(), Timeout: DefaultTimeout, Log: slog.New(slog.NewJSONHandler(&log, nil))}, &log
}

func request(labels ...string) Request {
	r := Request{SecretName: "app_db_v1", ServiceName: "app_web", TaskID: "task1", NodeID: "node1", SecretLabels: map[string]string{}, ServiceLabels: map[string]string{stackLabel: "app"}}
	for i := 0; i < len(labels); i += 2 {
		r.SecretLabels[labels[i]] = labels[i+1]
	}
	return r
}

func bytesOf(t *testing.T, v secrets.Value) string {
	t.Helper()
	b, err := v.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestGet(t *testing.T) {
	const ref = "op://v/db/password"
	for name, test := range map[string]struct {
		request Request
		err     error // of the source
		want    string
		outcome Outcome
		reason  string
	}{
		"reference":    {request: request(secrets.LabelReference, ref), want: "value of op://v/db/password #0", outcome: Given},
		"template":     {request: request(secrets.LabelReference, ref, secrets.LabelTemplate, "x={{ op://v/db/password }}\n"), want: "x=value of op://v/db/password #0\n", outcome: Given},
		"own stack":    {request: request(secrets.LabelReference, ref, secrets.LabelStack, "app"), want: "value of op://v/db/password #0", outcome: Given},
		"other stack":  {request: request(secrets.LabelReference, ref, secrets.LabelStack, "other"), outcome: Denied, reason: `the secret is for stack "other"`},
		"no label":     {request: request(), outcome: Malformed, reason: "neither the label"},
		"no reference": {request: request(secrets.LabelReference, "hunter2"), outcome: Malformed, reason: "not a secret reference"},
		"a list":       {request: request(secrets.LabelReference, ref+"\n"+ref), outcome: Malformed, reason: "parts"},
		"empty text":   {request: request(secrets.LabelTemplate, "no reference"), outcome: Malformed, reason: "holds no reference"},
		"too long":     {request: request(secrets.LabelTemplate, strings.Repeat("x", maxSecret-10)+" {{ op://v/db/password }}"), outcome: Failed, reason: "takes less than 512000"},
		"missing":      {request: request(secrets.LabelReference, ref), err: &secrets.NotFoundError{What: "field", Name: "password"}, outcome: NotFound, reason: "there is no field"},
		"refused":      {request: request(secrets.LabelReference, ref), err: secrets.ErrDenied, outcome: Refused, reason: "access denied"},
		"away":         {request: request(secrets.LabelReference, ref), err: secrets.ErrUnavailable, outcome: Unavailable, reason: "source unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			d, log := newDriver(&source{err: test.err})
			value, err := d.Get(t.Context(), test.request)
			if got := bytesOf(t, value); got != test.want || (err != nil) != (test.reason != "") {
				t.Errorf("got %q, %v", got, err)
			}
			if err != nil && !strings.Contains(err.Error(), test.reason) {
				t.Errorf("got %v, want %q", err, test.reason)
			}
			var line map[string]any
			if err := json.Unmarshal(log.Bytes(), &line); err != nil {
				t.Fatalf("%v: %s", err, log)
			}
			if line["outcome"] != string(test.outcome) || line["service"] != "app_web" || line["secret"] != "app_db_v1" || line["node"] != "node1" {
				t.Errorf("the log says %s", log)
			}
			if test.outcome == Given && line["reference"] != ref {
				t.Errorf("the log says %s", log)
			}
			if strings.Contains(log.String(), "value of") || strings.Contains(log.String(), "hunter2") || strings.Contains(log.String(), "xxx") {
				t.Errorf("the log holds a value: %s", log)
			}
		})
	}
}

func TestTimeoutIsWellUnderSwarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, log := newDriver(&source{wait: true})
		began := time.Now()
		_, err := d.Get(t.Context(), request(secrets.LabelReference, "op://v/db/password"))
		if took := time.Since(began); err == nil || took != DefaultTimeout || took >= 15*time.Second/2 {
			t.Errorf("took %s, %v", took, err)
		}
		if !strings.Contains(log.String(), `"outcome":"unavailable"`) {
			t.Errorf("the log says %s", log)
		}
	})
}

func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		d, log := newDriver(s)
		d.Cache = NewCache(time.Hour)
		get := func(ref string) string {
			t.Helper()
			value, err := d.Get(t.Context(), request(secrets.LabelReference, ref))
			defer value.Wipe()
			if err != nil {
				return "error"
			}
			return bytesOf(t, value)
		}
		expect := func(what, got, want string) {
			t.Helper()
			if got != want {
				t.Errorf("%s: got %q, want %q", what, got, want)
			}
		}
		const a, b, otp = "op://v/i/a", "op://v/i/b", "op://v/i/c?attribute=otp"
		expect("there", get(a), "value of op://v/i/a #0")
		get(otp)
		s.round = 1
		expect("the source counts while it is there", get(a), "value of op://v/i/a #1")

		s.wait = true
		reads := s.reads
		began := time.Now()
		expect("away", get(a), "value of op://v/i/a #1")
		expect("away, again", get(a), "value of op://v/i/a #1")
		if took := time.Since(began); s.reads != reads+1 || took != DefaultTimeout {
			t.Errorf("a source that is away was asked %d times, for %s", s.reads-reads, took)
		}
		expect("never seen", get(b), "error")
		expect("a one-time password", get(otp), "error")
		if !strings.Contains(log.String(), `"outcome":"cached"`) {
			t.Errorf("the log says %s", log)
		}
		time.Sleep(awayFor)
		reads = s.reads
		expect("asked again after a while", get(a), "value of op://v/i/a #1")
		if s.reads != reads+1 {
			t.Error("the source was not asked again")
		}
		time.Sleep(2 * time.Hour)
		expect("too old", get(a), "error")

		s.wait, s.err = false, nil
		time.Sleep(awayFor)
		expect("back", get(a), "value of op://v/i/a #1")
		s.err = &secrets.NotFoundError{What: "item"}
		expect("gone from the source", get(a), "error")
		s.err = secrets.ErrDenied
		expect("no longer ours", get(a), "error")

		k := d.Cache.values
		d.Cache.Close()
		if len(k) != 0 {
			t.Error("the cache is not empty")
		}
	})
}

// What the source refuses is not given out, however the rest of it fares.
func TestCacheForgetsWhatIsRefused(t *testing.T) {
	const a, b = "op://v/i/a", "op://v/i/b"
	for name, test := range map[string]struct {
		refused error
		outcome Outcome
	}{
		"denied":    {secrets.ErrDenied, Refused},
		"gone":      {&secrets.NotFoundError{What: "field"}, NotFound},
		"ambiguous": {&secrets.AmbiguousError{What: "item"}, NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &source{}
				d, log := newDriver(s)
				d.Cache = NewCache(time.Hour)
				defer d.Cache.Close()
				both := request(secrets.LabelTemplate, "{{ "+a+" }} {{ "+b+" }}")
				get := func(r Request) (string, error) {
					log.Reset()
					value, err := d.Get(t.Context(), r)
					defer value.Wipe()
					return bytesOf(t, value), err
				}
				if _, err := get(both); err != nil {
					t.Fatal(err)
				}
				s.fails = map[string]error{a: test.refused, b: secrets.ErrUnavailable}
				if _, err := get(both); err == nil || !strings.Contains(log.String(), `"outcome":"`+string(test.outcome)+`"`) {
					t.Errorf("one refused, one away: %v, the log says %s", err, log)
				}
				if _, err := get(both); err == nil {
					t.Errorf("again, while the source counts as away: the log says %s", log)
				}
				if got, err := get(request(secrets.LabelReference, b)); err != nil || got != "value of "+b+" #0" {
					t.Errorf("the one that is away: %q, %v", got, err)
				}
				time.Sleep(awayFor)
				s.wait = true
				if _, err := get(request(secrets.LabelReference, a)); err == nil {
					t.Errorf("refused, then away: the log says %s", log)
				}
			})
		})
	}
}

// A fault that is neither is of the source all the same.
func TestCacheStandsInForAwayAlone(t *testing.T) {
	const a, b = "op://v/i/a", "op://v/i/b"
	s := &source{}
	d, log := newDriver(s)
	d.Cache = NewCache(time.Hour)
	defer d.Cache.Close()
	both := request(secrets.LabelTemplate, "{{ "+a+" }} {{ "+b+" }}")
	value, err := d.Get(t.Context(), both)
	if err != nil {
		t.Fatal(err)
	}
	value.Wipe()
	s.fails = map[string]error{a: errors.New("the answer is no item"), b: secrets.ErrUnavailable}
	if _, err := d.Get(t.Context(), both); err == nil || !strings.Contains(log.String(), `"outcome":"failed"`) {
		t.Errorf("one failed, one away: %v, the log says %s", err, log)
	}
}

func TestPolicy(t *testing.T) {
	policy, err := ParsePolicy([]byte(`rules:
  - services: ["media_*", app_web]
    references: [homelab/postgres-*, "op://Homelab/Sonarr"]
  - services: ["*"]
    references: [public/*]
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		service, label, reference string
		want                      bool
	}{
		{"media_sonarr", "", "op://homelab/postgres-shared/password", true},
		{"media_sonarr", "", "op://homelab/sonarr/key", true},
		{"media_sonarr", "", "op://homelab/radarr/key", false},
		{"media_sonarr", "", "op://other/postgres-shared/password", false},
		{"app_web", "", "op://homelab/sonarr/key", true},
		{"app_web2", "", "op://homelab/sonarr/key", false},
		{"app_web2", "", "op://public/x/y", true},
		{"app_web", "homelab/sonarr, public/*", "op://homelab/sonarr/key", true},
		{"app_web", "public/*", "op://homelab/sonarr/key", false},
		{"app_web2", "homelab/*", "op://homelab/sonarr/key", false}, // a label does not widen
		{"app_web", "", "op://public/x/y", true},
		{"app_web", " ", "op://public/x/y", false}, // an empty label narrows to nothing
	} {
		ref, err := secrets.ParseReference(test.reference)
		if err != nil {
			t.Fatal(err)
		}
		r := Request{ServiceName: test.service, ServiceLabels: map[string]string{}}
		if test.label != "" {
			r.ServiceLabels[AllowLabel] = test.label
		}
		if err := policy.Allow(r, []secrets.Reference{ref}); (err == nil) != test.want {
			t.Errorf("%s with %q, %s: %v, want %t", test.service, test.label, test.reference, err, test.want)
		}
		// One that is allowed beside one that is not.
		secret, _ := secrets.ParseReference("op://secret/x/y")
		if policy.Allow(r, []secrets.Reference{ref, secret}) == nil {
			t.Errorf("%s: a second reference passes unseen", test.reference)
		}
	}
	for _, bad := range []string{"rules: [{services: [a]}]", "rules: [{services: [a], references: [vault]}]", "rules: [{services: ['['], references: [a/b]}]", "rule: []", "rules: [{services: [a], references: [a/b/c]}]"} {
		if _, err := ParsePolicy([]byte(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	for _, empty := range []string{"", "rules: []"} {
		p, err := ParsePolicy([]byte(empty))
		ref, _ := secrets.ParseReference("op://a/b/c")
		if err != nil || p.Allow(Request{}, []secrets.Reference{ref}) == nil {
			t.Errorf("%q allows: %v", empty, err)
		}
	}
}

func TestProtocol(t *testing.T) {
	d, log := newDriver(&source{})
	server := httptest.NewServer(d.Handler())
	defer server.Close()
	post := func(path, body string) string {
		t.Helper()
		response, err := http.Post(server.URL+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		out, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != protocol {
			t.Errorf("%s: %s, %v", path, response.Status, err)
		}
		return string(out)
	}
	if got := post("/Plugin.Activate", ""); got != `{"Implements":["secretprovider"]}` {
		t.Errorf("activate: %s", got)
	}
	var answer struct {
		Value      []byte
		Err        string
		DoNotReuse bool
	}
	ask := func(body string) {
		t.Helper()
		answer.Value, answer.Err, answer.DoNotReuse = nil, "", false
		if err := json.Unmarshal([]byte(post("/SecretProvider.GetSecret", body)), &answer); err != nil {
			t.Fatal(err)
		}
		if !answer.DoNotReuse {
			t.Errorf("%s: the answer may be reused", body)
		}
	}
	ask(`{"SecretName":"s","SecretLabels":{"skep.secret.reference":"op://v/i/f"},"ServiceName":"a_b","Unknown":[1]}`)
	if string(answer.Value) != "value of op://v/i/f #0" || answer.Err != "" {
		t.Errorf("got %q, %s", answer.Value, answer.Err)
	}
	ask(`{"SecretName":"s"}`)
	if answer.Value != nil || !strings.Contains(answer.Err, "neither the label") {
		t.Errorf("got %q, %s", answer.Value, answer.Err)
	}
	ask(`no JSON`)
	if answer.Err != "the request is no JSON" {
		t.Errorf("got %s", answer.Err)
	}
	if n := strings.Count(log.String(), `"outcome"`); n != 3 {
		t.Errorf("three requests have %d outcomes:\n%s", n, log)
	}
}

package api

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
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/internal/logtest"
	"skep/internal/postgrestest"
	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/store"
	"skep/services/controlplane/webhook"
)

var shared postgrestest.Shared

func TestMain(m *testing.M) {
	code := m.Run()
	if err := shared.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop PostgreSQL:", err)
		code = 1
	}
	os.Exit(code)
}

// fakeStore knows tokens, the audit log and events; the rest of a Store is
// missing, and a call of it a panic.
type fakeStore struct {
	Store

	mu     sync.Mutex
	tokens map[string]controlplane.Token
	asked  int
	rows   []controlplane.Audit
	events []controlplane.Event
	heard  []func(int64)
	since  func() // before each Since, if there
}

func newFakeStore() *fakeStore { return &fakeStore{tokens: map[string]controlplane.Token{}} }

// token makes one, with a text that looks for itself in answers and logs.
func (f *fakeStore) token(name controlplane.Name, scopes ...controlplane.Scope) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	shown := "planted-token-of-" + string(name)
	f.tokens[shown] = controlplane.Token{Name: name, Scopes: scopes}
	return shown
}

func (f *fakeStore) revoke(shown string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.tokens, shown)
}

func (f *fakeStore) Authenticate(_ context.Context, shown string) (controlplane.Token, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if t, ok := f.tokens[shown]; ok {
		return t, nil
	}
	return controlplane.Token{}, fmt.Errorf("authenticate: %w", controlplane.ErrDenied)
}

func (f *fakeStore) Audit(_ context.Context, a controlplane.Audit) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rows = append(f.rows, a)
	return nil
}

func (f *fakeStore) audited() []controlplane.Audit {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]controlplane.Audit{}, f.rows...)
}

func (f *fakeStore) publish(topic, kind string) int64 {
	f.mu.Lock()
	id := int64(len(f.events) + 1)
	f.events = append(f.events, controlplane.Event{ID: id, Topic: topic, Type: kind, At: time.Unix(id, 0), Data: []byte(`{"n":1}`)})
	heard := f.heard
	f.mu.Unlock()
	for _, h := range heard {
		h(id)
	}
	return id
}

func (f *fakeStore) Since(_ context.Context, topics []string, last int64, limit int) ([]controlplane.Event, error) {
	f.mu.Lock()
	before := f.since
	f.mu.Unlock()
	if before != nil {
		before()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []controlplane.Event
	for _, e := range f.events[min(int(last), len(f.events)):] {
		match := len(topics) == 0
		for _, t := range topics {
			match = match || t == e.Topic
		}
		if match && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

func (f *fakeStore) Listen(ctx context.Context, heard func(int64)) error {
	f.mu.Lock()
	f.heard = append(f.heard, heard)
	last := int64(len(f.events))
	f.mu.Unlock()
	heard(last)
	<-ctx.Done()
	return ctx.Err()
}

func (f *fakeStore) Ping(context.Context) error { return nil }

// starter notes what it was given.
// outputs is how workers write.
type outputs interface {
	AppendLog(context.Context, controlplane.RunID, []controlplane.LogLine) error
	PutArtefact(ctx context.Context, id controlplane.RunID, name, media string, content []byte) error
}

type starter struct {
	mu   sync.Mutex
	runs []controlplane.Run
	err  error
}

func (s *starter) Start(_ context.Context, r controlplane.Run) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs = append(s.runs, r)
	return s.err
}

// account answers a test with its token's length.
type account struct{ credentials integration.Credentials }

func (a account) Test(ctx context.Context) (who string, err error) {
	err = a.credentials(ctx, func(v integration.Values) error {
		token, err := v.Bytes("token")
		if bytes.HasPrefix(token, []byte("refused")) {
			err = &integration.StatusError{Method: "GET", Path: "/user", Status: http.StatusUnauthorized, Message: "Bad credentials"}
		}
		who = fmt.Sprintf("an account with %d bytes", len(token))
		return err
	})
	return who, err
}

func registry() *integration.Registry {
	return integration.NewRegistry(integration.Options{}, integration.Driver{
		Provider: controlplane.GitHub,
		Fields: []integration.Field{
			{Name: "url", Address: true, Help: "where it is"},
			{Name: "organization", Required: true, Help: "whose it is"},
			{Name: "token", Secret: true, Required: true, Check: integration.Token, Help: "a token"},
			{Name: "key", Secret: true, Help: "a key"},
		},
		Open: func(_ integration.Settings, c integration.Credentials, _ integration.Options) (integration.Account, error) {
			return account{c}, nil
		},
	})
}

// service is an API that answers on a port of its own.
type service struct {
	*API
	url     string
	logged  *logtest.Buffer
	starter *starter
	stop    context.CancelFunc // ends Run
}

func serve(t testing.TB, s Store, change ...func(*Options)) *service {
	t.Helper()
	out := &service{logged: &logtest.Buffer{}, starter: &starter{}}
	log := slog.New(slog.NewJSONHandler(out.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	metrics := prometheus.NewRegistry()
	o := Options{
		Store: s, Registry: registry(), Starter: out.starter, Ready: func(context.Context) error { return nil },
		Metrics: metrics, Log: log, Version: "test",
	}
	if real, ok := s.(*store.Store); ok {
		hooks, err := webhook.New(webhook.Options{Sources: real, Deliveries: real, Metrics: metrics, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		o.Webhooks = hooks
	} else {
		o.Webhooks = noWebhooks{}
	}
	for _, c := range change {
		c(&o)
	}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	out.API = a
	ctx, cancel := context.WithCancel(context.Background())
	out.stop = cancel
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	server := httptest.NewServer(a)
	out.url = server.URL
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
		server.Close()
		if t.Failed() {
			t.Log(out.logged)
		}
	})
	return out
}

type noWebhooks struct{}

func (noWebhooks) ServeHTTP(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }
func (noWebhooks) Forget(controlplane.Provider, controlplane.Name)  {}

// answer is a response that was read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) problem(t testing.TB) (p struct {
	Title, Detail, Instance string
	Status                  int
	Errors                  []struct{ Location, Message string }
}) {
	t.Helper()
	if kind := a.header.Get("Content-Type"); kind != "application/problem+json" {
		t.Errorf("%d is of type %q: %s", a.status, kind, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
	if p.Status != a.status || p.Title == "" || p.Instance != "urn:uuid:"+a.header.Get("X-Request-Id") {
		t.Errorf("the problem is %s, the status %d and the request %s", a.body, a.status, a.header.Get("X-Request-Id"))
	}
	return p
}

func (a answer) into(t testing.TB, status int, out any) {
	t.Helper()
	if a.status != status {
		t.Fatalf("got %d %s, want %d", a.status, a.body, status)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal([]byte(a.body), out); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
}

func (s *service) request(t testing.TB, method, path, token string, body any) *http.Request {
	t.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		in = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, in)
	if err != nil {
		t.Fatal(err)
	}
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

func (s *service) call(t testing.TB, method, path, token string, body any) answer {
	t.Helper()
	return s.send(t, s.request(t, method, path, token, body))
}

func (s *service) send(t testing.TB, r *http.Request) answer {
	t.Helper()
	client := &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(content)}
}

// newStore is the real one, on a database of its own.
func newStore(t testing.TB) *store.Store {
	t.Helper()
	dsn := shared.Server(t).Database(t)
	if err := store.Migrate(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	key := secrets.NewValue([]byte(strings.Repeat("0f", 32)))
	s, err := store.Open(t.Context(), dsn, store.Keys{Current: "k1", All: map[store.KeyID]secrets.Value{"k1": key}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func newToken(t testing.TB, s *store.Store, name controlplane.Name, scopes ...controlplane.Scope) string {
	t.Helper()
	shown, _, err := s.CreateToken(t.Context(), name, scopes, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := shown.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var errNotYet = errors.New("not yet")

func value(s string) secrets.Value { return secrets.NewValue([]byte(s)) }

func withID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, exchangeKey{}, &exchange{id: id})
}

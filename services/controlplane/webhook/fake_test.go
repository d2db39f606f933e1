package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/internal/logtest"
	"skep/secrets"
	"skep/services/controlplane"
)

const (
	plainSecret = "It's-a-secret-to-everybody"
	// From the example of the Standard Webhooks' libraries.
	standardSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// memory stands for the database: the same rules, no disk.
type memory struct {
	mu         sync.Mutex
	sources    map[sourceKey]controlplane.Source
	asked      int
	away       error
	deliveries []controlplane.Delivery
	ids        map[string]int64
}

func newMemory() *memory {
	m := &memory{sources: map[sourceKey]controlplane.Source{}, ids: map[string]int64{}}
	for i, p := range controlplane.Providers {
		secret := plainSecret
		if p == controlplane.Generic || p == controlplane.Salesforce {
			secret = standardSecret
		}
		m.put(int64(i+1), p, DefaultSource, secret)
	}
	m.put(50, controlplane.GitLab, "signed", standardSecret)
	return m
}

func (m *memory) put(id int64, p controlplane.Provider, n controlplane.Name, secret string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources[sourceKey{p, n}] = controlplane.Source{ID: id, Provider: p, Name: n, Secret: secrets.NewValue([]byte(secret))}
}

func (m *memory) Source(ctx context.Context, p controlplane.Provider, n controlplane.Name) (controlplane.Source, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if err := errors.Join(m.away, ctx.Err()); err != nil {
		return controlplane.Source{}, err
	}
	s, ok := m.sources[sourceKey{p, n}]
	if !ok {
		return s, fmt.Errorf("source %s: %w", n, controlplane.ErrNotFound)
	}
	secret, err := s.Secret.Clone() // as a database does
	s.Secret = secret
	return s, err
}

func (m *memory) Add(ctx context.Context, d controlplane.Delivery) (int64, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(m.away, ctx.Err()); err != nil {
		return 0, false, err
	}
	key := fmt.Sprint(d.Source, " ", d.Delivery)
	if id, ok := m.ids[key]; ok {
		return id, false, nil
	}
	d.ID = int64(len(m.deliveries) + 1)
	d.Body = append([]byte{}, d.Body...)
	m.deliveries = append(m.deliveries, d)
	m.ids[key] = d.ID
	return d.ID, true, nil
}

func (m *memory) all() []controlplane.Delivery {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]controlplane.Delivery{}, m.deliveries...)
}

type fixture struct {
	*memory
	handler *Handler
	log     *logtest.Buffer
	metrics *prometheus.Registry
	now     time.Time
}

func newFixture(t testing.TB, change ...func(*Options)) *fixture {
	f := &fixture{memory: newMemory(), log: &logtest.Buffer{}, metrics: prometheus.NewRegistry(), now: time.Unix(1700000000, 0)}
	o := Options{Sources: f.memory, Deliveries: f.memory, Metrics: f.metrics, Now: func() time.Time { return f.now },
		Log: slog.New(slog.NewJSONHandler(f.log, nil))}
	for _, c := range change {
		c(&o)
	}
	var err error
	if f.handler, err = New(o); err != nil {
		t.Fatal(err)
	}
	return f
}

// message is a delivery before it is sent.
type message struct {
	path   string
	header http.Header
	body   string
}

func (m message) request() *http.Request {
	r := httptest.NewRequest(http.MethodPost, m.path, strings.NewReader(m.body))
	r.Header = m.header.Clone()
	return r
}

func headers(pairs ...string) http.Header {
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

func mac(key, text string) []byte {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(text))
	return m.Sum(nil)
}

func gitHubMessage(id, body string) message {
	return message{Path + "github", headers("X-GitHub-Event", "push", "X-GitHub-Delivery", id,
		"X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac(plainSecret, body))), body}
}

func sign(id, timestamp, body string) string {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(standardSecret, "whsec_"))
	if err != nil {
		panic(err)
	}
	return "v1," + base64.StdEncoding.EncodeToString(mac(string(key), id+"."+timestamp+"."+body))
}

func standardMessage(path, id string, now time.Time, body string) message {
	timestamp := fmt.Sprint(now.Unix())
	return message{path, headers("webhook-id", id, "webhook-timestamp", timestamp, "webhook-signature", sign(id, timestamp, body)), body}
}

const azureBody = `{"subscriptionId":"5f3c7e0a","notificationId":7,"id":"03c164c2","eventType":"git.push","resource":{}}`

// good is one delivery of each form that is verified.
func good(now time.Time) map[string]message {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("skep:"+plainSecret))
	return map[string]message{
		"github":     gitHubMessage("72d3162e-cc78-11e3-81ab-4c9367dc0958", `{"ref":"refs/heads/main"}`),
		"azure":      {Path + "azuredevops", headers("Authorization", basic), azureBody},
		"gitlab":     {Path + "gitlab", headers("X-Gitlab-Token", plainSecret, "X-Gitlab-Event", "Push Hook", "Idempotency-Key", "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"), `{"object_kind":"push"}`},
		"gitlab-v1":  withEvent(standardMessage(Path+"gitlab/signed", "f5e5f430", now, `{"object_kind":"push"}`)),
		"generic":    standardMessage(Path+"generic", "msg_p5jXN8AQM9LWM0D4loKWxJek", now, `{"type":"job.done"}`),
		"salesforce": standardMessage(Path+"salesforce/default", "evt_1", now, `{"event":"x"}`),
	}
}

func withEvent(m message) message {
	m.header.Set("X-Gitlab-Event", "Push Hook")
	return m
}

func (f *fixture) send(m message) *httptest.ResponseRecorder { return f.serve(m.request()) }

func (f *fixture) serve(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w
}

func (f *fixture) counted(t testing.TB, provider string, o outcome) float64 {
	families, err := f.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "skep_webhook_deliveries_total" {
			continue
		}
		for _, m := range family.GetMetric() { // labels are sorted: outcome, provider
			if m.Label[0].GetValue() == string(o) && m.Label[1].GetValue() == provider {
				return m.Counter.GetValue()
			}
		}
	}
	return 0
}

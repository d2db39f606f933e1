package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/internal/postgrestest"
	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

var (
	_ Sources    = (*store.Store)(nil)
	_ Deliveries = (*store.Store)(nil)
)

// keeper is what both handlers of a benchmark share.
type keeper interface {
	Sources
	Deliveries
}

// database is a real store with a source at GitHub.
func database(b *testing.B) *store.Store {
	b.Helper()
	dsn := postgrestest.Start(b).Database(b)
	if err := store.Migrate(b.Context(), dsn); err != nil {
		b.Fatal(err)
	}
	keys := store.Keys{Current: "k", All: map[store.KeyID]secrets.Value{"k": secrets.NewValue([]byte(strings.Repeat("0f", 32)))}}
	s, err := store.Open(b.Context(), dsn, keys)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	if _, err := s.PutIntegration(b.Context(), controlplane.Integration{Provider: controlplane.GitHub, Name: "main"}, nil); err != nil {
		b.Fatal(err)
	}
	_, err = s.PutSource(b.Context(), controlplane.Source{
		Provider: controlplane.GitHub, Name: DefaultSource, Integration: "main", Secret: secrets.NewValue([]byte(plainSecret)),
	})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// bare is the least that could be called a webhook endpoint: verify and insert.
func bare(k keeper, source int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "", http.StatusBadRequest)
			return
		}
		mac := hmac.New(sha256.New, []byte(plainSecret))
		mac.Write(body)
		if !hmac.Equal([]byte(r.Header.Get(headerGitHub)), []byte("sha256="+hex.EncodeToString(mac.Sum(nil)))) {
			http.Error(w, "", http.StatusUnauthorized)
			return
		}
		id, _, err := k.Add(r.Context(), controlplane.Delivery{
			Source: source, Provider: controlplane.GitHub, Delivery: controlplane.DeliveryID(r.Header.Get("X-GitHub-Delivery")), Event: "push", Body: body,
		})
		if err != nil {
			http.Error(w, "", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, id)
	})
}

func skep(b *testing.B, k keeper) http.Handler {
	h, err := New(Options{Sources: k, Deliveries: k, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.NewJSONHandler(io.Discard, nil))})
	if err != nil {
		b.Fatal(err)
	}
	return h
}

type handlers struct {
	name    string
	handler http.Handler
}

func subjects(b *testing.B, name string, k keeper) []handlers {
	source, err := k.Source(b.Context(), controlplane.GitHub, DefaultSource)
	if err != nil {
		b.Fatal(err)
	}
	return []handlers{{name + "/bare", bare(k, source.ID)}, {name + "/skep", skep(b, k)}}
}

var serial atomic.Int64

// benchBody is of the size of a push of a few commits.
var benchBody = `{"ref":"refs/heads/main","text":"` + strings.Repeat("x", 8<<10) + `"}`

// deliver sends one message and returns how long the answer took.
func deliver(client *http.Client, url string) (time.Duration, error) {
	m := gitHubMessage(fmt.Sprintf("bench-%d", serial.Add(1)), benchBody)
	r, err := http.NewRequest(http.MethodPost, url+m.path, strings.NewReader(m.body))
	if err != nil {
		return 0, err
	}
	r.Header = m.header
	start := time.Now()
	answer, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return 0, err
	}
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status %d", answer.StatusCode)
	}
	return time.Since(start), nil
}

type latencies struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d)
}

func (l *latencies) report(b *testing.B) {
	slices.Sort(l.all)
	at := func(q float64) float64 {
		return float64(l.all[int(q*float64(len(l.all)-1))].Microseconds()) / 1000
	}
	b.ReportMetric(at(.5), "p50-ms")
	b.ReportMetric(at(.99), "p99-ms")
}

func server(b *testing.B, h http.Handler) (*http.Client, string) {
	s := httptest.NewServer(h)
	b.Cleanup(s.Close)
	client := s.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	return client, s.URL
}

// BenchmarkAck8KiB is as fast as 16 senders go, over HTTP on loopback.
func BenchmarkAck8KiB(b *testing.B) {
	for _, s := range slices.Concat(subjects(b, "memory", newMemory()), subjects(b, "postgres", database(b))) {
		b.Run(s.name, func(b *testing.B) {
			client, url := server(b, s.handler)
			var l latencies
			work := make(chan struct{})
			var senders sync.WaitGroup
			for range 16 {
				senders.Go(func() {
					for range work {
						d, err := deliver(client, url)
						if err != nil {
							b.Error(err)
							continue
						}
						l.add(d)
					}
				})
			}
			b.ResetTimer()
			for range b.N {
				work <- struct{}{}
			}
			close(work)
			senders.Wait()
			b.StopTimer()
			l.report(b)
		})
	}
}

// BenchmarkAck8KiBAt500 sends 500 a second, whether they are answered or not.
// Run it with -benchtime 5000x.
func BenchmarkAck8KiBAt500(b *testing.B) {
	for _, s := range subjects(b, "postgres", database(b)) {
		b.Run(s.name, func(b *testing.B) {
			client, url := server(b, s.handler)
			var l latencies
			var senders sync.WaitGroup
			start := time.Now()
			b.ResetTimer()
			for i := range b.N {
				ctx, cancel := context.WithDeadline(b.Context(), start.Add(time.Duration(i)*time.Second/500))
				<-ctx.Done()
				cancel()
				senders.Go(func() {
					d, err := deliver(client, url)
					if err != nil {
						b.Error(err)
						return
					}
					l.add(d)
				})
			}
			senders.Wait()
			b.StopTimer()
			l.report(b)
		})
	}
}

package dispatch

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/services/controlplane"
	"skep/services/controlplane/webhook"
)

const secret = "a-secret-of-more-than-16-bytes"

// shipment is one request to the endpoint and the answer that it must get.
type shipment struct {
	source int64
	id     string
	body   string
	forged bool
	status int
}

func (s shipment) send(client *http.Client, url string) (int, string, error) {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(s.body))
	signature := mac.Sum(nil)
	if s.forged {
		signature[int(s.id[len(s.id)-1])%len(signature)] ^= 1
	}
	r, err := http.NewRequest(http.MethodPost, fmt.Sprintf("%s%sgithub/s%d", url, webhook.Path, s.source), strings.NewReader(s.body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-GitHub-Event", "push")
	r.Header.Set("X-GitHub-Delivery", s.id)
	r.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(signature))
	answer, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

// Ten thousand deliveries over HTTP, a tenth of them replays, 5% forged, 1% too
// large, in no order, while the engine fails now and then and dispatchers come
// and go: each good one is started exactly once, in the order of arrival.
func TestFlood(t *testing.T) {
	const total, sources, limit = 10_000, 8, 32 << 10
	o, e := newOutbox(sources), newEngine()
	handler, err := webhook.New(webhook.Options{
		Sources: o, Deliveries: o, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
		Limits: map[controlplane.Provider]int64{controlplane.GitHub: limit},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()

	random := rand.New(rand.NewPCG(1, 2))
	good := map[string]bool{}
	var shipments []shipment
	for i := range total {
		s := shipment{source: int64(i%sources) + 1, id: fmt.Sprintf("%0*d", idLength, i), body: pushBody("acme/cluster"), status: http.StatusOK}
		switch p := random.IntN(100); {
		case p < 5:
			s.forged, s.status = true, http.StatusUnauthorized
		case p < 6:
			s.body, s.status = s.body+strings.Repeat(" ", limit), http.StatusRequestEntityTooLarge
		case p < 16 && len(good) > 0:
			again := shipments[random.IntN(len(shipments))]
			for again.status != http.StatusOK {
				again = shipments[random.IntN(len(shipments))]
			}
			s = again
		default:
			good[fmt.Sprint(s.source, "/", s.id)] = true
		}
		shipments = append(shipments, s)
	}
	random.Shuffle(total, func(i, j int) { shipments[i], shipments[j] = shipments[j], shipments[i] })

	e.set(func(controlplane.Run) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.asked == 2000 || e.asked == 4000 {
			return errEngine
		}
		return nil
	})
	stops := []func() error{run(t, o, e, o.wake), run(t, o, e, o.wake)}
	client := server.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 16
	work := make(chan shipment)
	var senders sync.WaitGroup
	for range 16 {
		senders.Go(func() {
			for s := range work {
				if status, text, err := s.send(client, server.URL); err != nil || status != s.status {
					t.Errorf("%+v: %d %s %v", s, status, text, err)
				}
			}
		})
	}
	for i, s := range shipments {
		if i == total/2 { // one leaves, another comes
			if err := stops[0](); err != nil {
				t.Error(err)
			}
			stops[0] = run(t, o, e, o.wake)
		}
		work <- s
	}
	close(work)
	senders.Wait()
	waitFor(t, func() bool { return o.count(controlplane.DeliveryStored) == 0 })
	for _, stop := range stops {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}

	if len(o.deliveries) != len(good) || len(e.taken) != len(good) || o.count(controlplane.DeliveryDispatched) != len(good) {
		t.Errorf("%d good ones, %d stored, %d started", len(good), len(o.deliveries), len(e.taken))
	}
	arrived := map[int64][]string{}
	for _, d := range o.deliveries {
		arrived[d.Source] = append(arrived[d.Source], string(d.Delivery.Delivery))
		if !good[fmt.Sprint(d.Source, "/", d.Delivery.Delivery)] {
			t.Errorf("%d/%s should not be there", d.Source, d.Delivery.Delivery)
		}
	}
	for source, ids := range arrived {
		if got := e.order(source); !slices.Equal(got, ids) {
			t.Errorf("source %d: started in another order than they arrived", source)
		}
	}
}

func waitFor(t *testing.T, what func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !what() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it does not come to pass")
		}
	}
}

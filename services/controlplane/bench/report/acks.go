package main

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"skep/services/controlplane/engine"
	"skep/services/controlplane/webhook"
)

const (
	ackRate      = 500 // a second
	ackBody      = 8 << 10
	rateSenders  = 64 // enough that none is waited for
	senders      = 16
	bareCapacity = "16" // connections, as the store has
)

// measureAcks is about the time until a delivery is answered, which is when it
// is stored.
func measureAcks(ctx context.Context, b *bed, p plan, out io.Writer) (err error) {
	s, source, url, err := b.store(ctx, "acks")
	if err != nil {
		return err
	}
	defer s.Close()
	real, err := b.handler(s, engine.Starter{}) // nothing is started here
	if err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, url+"&pool_max_conns="+bareCapacity)
	if err != nil {
		return err
	}
	defer pool.Close()
	bare, skep := &ackSubject{name: "verify + insert"}, &ackSubject{name: "skep-server"}
	for subject, handler := range map[*ackSubject]http.Handler{bare: bareHandler(pool, source.ID), skep: real} {
		on, problem := serve(handler)
		if problem != nil {
			return problem
		}
		defer func() { err = errors.Join(err, on.stop()) }()
		subject.address = on.address
	}
	if err := p.inTurn("acknowledgements", bare.round(ctx, p.length), skep.round(ctx, p.length)); err != nil {
		return err
	}
	fmt.Fprintf(out, `
### A webhook is acknowledged

A signed push of %d KiB over HTTP, verified, stored and answered. At %d a second the time counts from when the delivery was due;
at full speed %d senders do not wait.

| | p50 at %[2]d/s | p99 at %[2]d/s | p50 at full speed | p99 at full speed | deliveries/s |
|---|--:|--:|--:|--:|--:|
`, ackBody>>10, ackRate, senders)
	for _, s := range []*ackSubject{bare, skep} {
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s | %.0f |\n", s.name,
			ms(median(s.steady.p50)), ms(median(s.steady.p99)), ms(median(s.full.p50)), ms(median(s.full.p99)), median(s.perSecond))
	}
	fmt.Fprintf(out, "| ratio | %s | %s | %s | %s | %s |\n",
		ratio(median(skep.steady.p50), median(bare.steady.p50)), ratio(median(skep.steady.p99), median(bare.steady.p99)),
		ratio(median(skep.full.p50), median(bare.full.p50)), ratio(median(skep.full.p99), median(bare.full.p99)),
		ratio(median(skep.perSecond), median(bare.perSecond)))
	fmt.Fprint(out, `
- *verify + insert* reads the body, compares the signature and inserts the body by the same driver; it limits, logs and counts nothing.
`)
	return nil
}

// bareHandler is the least that could be called a webhook endpoint.
func bareHandler(pool *pgxpool.Pool, source int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "", http.StatusBadRequest)
			return
		}
		if !hmac.Equal([]byte(r.Header.Get("X-Hub-Signature-256")), []byte(signature(body))) {
			http.Error(w, "", http.StatusUnauthorized)
			return
		}
		var id int64
		err = pool.QueryRow(r.Context(), `INSERT INTO skep.delivery (source_id, delivery_id, event, body) VALUES ($1, $2, $3, $4) RETURNING id`,
			source, r.Header.Get("X-GitHub-Delivery"), r.Header.Get("X-GitHub-Event"), body).Scan(&id)
		if err != nil {
			http.Error(w, "", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, id)
	})
}

func signature(body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

type ackSubject struct {
	name, address string
	steady, full  series
	perSecond     []float64
}

func (s *ackSubject) round(ctx context.Context, length time.Duration) func(bool) error {
	body := `{"ref":"refs/heads/main","text":"` + strings.Repeat("x", ackBody) + `"}`
	return func(keep bool) error {
		steady, full := &latencies{}, &latencies{}
		if err := sendAtRate(ctx, s.address, body, ackRate, length, steady); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		perSecond, err := sendFast(ctx, s.address, body, length, full)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if keep {
			s.steady.add(steady)
			s.full.add(full)
			s.perSecond = append(s.perSecond, perSecond)
		}
		return nil
	}
}

// sendAtRate sends whether earlier ones are answered or not.
func sendAtRate(ctx context.Context, address, body string, rate int, length time.Duration, l *latencies) error {
	n := int(length.Seconds() * float64(rate))
	due := make(chan time.Time, n)
	ended := make(chan error, rateSenders)
	for range rateSenders {
		go func() {
			ended <- withSender(ctx, address, body, func(s *sender) error {
				for at := range due {
					if err := s.send(); err != nil {
						return err
					}
					l.add(time.Since(at))
				}
				return nil
			})
		}()
	}
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	start := time.Now()
	for i := range n {
		at := start.Add(time.Duration(i) * time.Second / time.Duration(rate))
		for time.Now().Before(at) {
			<-tick.C
		}
		due <- at
	}
	close(due)
	var err error
	for range rateSenders {
		err = errors.Join(err, <-ended)
	}
	return err
}

// sendFast is as fast as the senders go. Each sends at least once.
func sendFast(ctx context.Context, address, body string, length time.Duration, l *latencies) (perSecond float64, err error) {
	var all sync.WaitGroup
	errs := make([]error, senders)
	start := time.Now()
	for i := range senders {
		all.Go(func() {
			errs[i] = withSender(ctx, address, body, func(s *sender) error {
				for {
					began := time.Now()
					if err := s.send(); err != nil {
						return err
					}
					l.add(time.Since(began))
					if time.Since(start) >= length {
						return nil
					}
				}
			})
		})
	}
	all.Wait()
	return float64(len(l.all)) / time.Since(start).Seconds(), errors.Join(errs...)
}

// sender is a connection that deliveries are written to: it costs less than an
// HTTP client, which would be most of what is measured.
type sender struct {
	conn   net.Conn
	answer *bufio.Reader
	head   string
	body   string
}

func withSender(ctx context.Context, address, body string, f func(*sender) error) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	return f(&sender{conn: conn, answer: bufio.NewReader(conn), body: body, head: "POST " + webhook.Path + "github HTTP/1.1\r\nHost: " + address +
		"\r\nContent-Type: application/json\r\nX-GitHub-Event: push\r\nX-Hub-Signature-256: " + signature([]byte(body)) +
		fmt.Sprintf("\r\nContent-Length: %d\r\nX-GitHub-Delivery: ", len(body))})
}

var serial atomic.Int64

func (s *sender) send() error {
	if _, err := fmt.Fprintf(s.conn, "%s%d\r\n\r\n%s", s.head, serial.Add(1), s.body); err != nil {
		return err
	}
	r, err := http.ReadResponse(s.answer, nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	said, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("answered %s: %s", r.Status, said)
	}
	return err
}

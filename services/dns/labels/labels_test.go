package labels

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/swarm"

	"skep/networks"
)

func TestHosts(t *testing.T) {
	for name, test := range map[string]struct {
		labels map[string]string
		want   string
	}{
		"one":          {map[string]string{"caddy": "a.example.com"}, "a.example.com"},
		"numbered":     {map[string]string{"caddy_0": "b.example.com", "caddy_10": "a.example.com"}, "a.example.com b.example.com"},
		"several":      {map[string]string{"caddy": "a.example.com, b.example.com c.example.com"}, "a.example.com b.example.com c.example.com"},
		"addresses":    {map[string]string{"caddy": "http://a.example.com https://b.example.com:8443/path :443 *.c.example.com D.Example.COM"}, "*.c.example.com a.example.com b.example.com d.example.com"},
		"no hosts":     {map[string]string{"caddy": "(snippet)", "caddy_1": "", "caddy_2": "{$HOST} localhost 10.0.0.1 ssh://a.example.com {{upstreams}}"}, ""},
		"other labels": {map[string]string{"caddy.tls": "a.example.com", "caddy_a": "b.example.com", "xcaddy": "c.example.com", "caddy_1.respond": "d.example.com"}, ""},
		"hostile":      {map[string]string{"caddy": "..example.com a..example.com -a.example.com a_b.example.com \x00.example.com " + strings.Repeat("a", 300) + ".example.com"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(Hosts(test.labels), " "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestSites(t *testing.T) {
	got := Sites(map[string]string{
		"caddy": "b.example.com http://a.example.com", "caddy.tls": "internal", "caddy_1": "c.example.com", "caddy_1.tls": "/cert /key",
		"caddy_2": "http://d.example.com", "caddy_2.tls": "internal", "caddy_3": "https://d.example.com", "caddy_4": "http://e.example.com:8080",
	})
	want := []Site{
		{Host: "a.example.com", Plain: true}, {Host: "b.example.com", SelfSigned: true}, {Host: "c.example.com"},
		{Host: "d.example.com"}, {Host: "e.example.com", Plain: true},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	of := SitesOf([]Service{service("web", "app", "a.example.com"), service("", "plain", "http://a.example.com")})
	if of[Owned{"web/app", "a.example.com"}].Plain || !of[Owned{"plain", "a.example.com"}].Plain || len(of) != 2 {
		t.Errorf("sites of owners: %v", of)
	}
}

func service(stack, name string, hosts ...string) Service {
	labels := map[string]string{"caddy": strings.Join(hosts, " ")}
	if stack != "" {
		labels[namespace] = stack
		name = stack + "_" + name
	}
	return Service{Name: name, Labels: labels}
}

func TestZones(t *testing.T) {
	base := []networks.Zone{
		{Name: "public", Domain: "example.com", Target: "t.cfargotunnel.com", Proxied: true, Records: []networks.Record{{Name: "old.example.com", Type: networks.A, Content: "192.0.2.1", Owner: "gone/service"}}},
		{Name: "internal", Domain: "in.example.com", Target: "node1.in.example.com", Records: []networks.Record{{Name: "node1.in.example.com", Type: networks.A, Content: "10.0.0.1"}}},
		{Name: "none", Domain: "none.example.com"},
	}
	zones := Zones(base, []Service{
		service("web", "app", "app.example.com", "app.in.example.com", "app.none.example.com", "app.example.org"),
		service("evil", "app", "app.example.com", "node1.in.example.com"),
		service("", "plain", "plain.in.example.com"),
	})
	var got []string
	for _, z := range zones {
		for _, r := range z.Records {
			got = append(got, fmt.Sprintf("%s: %s %s %s %v %s", z.Name, r.Name, r.Type, r.Content, r.Proxied, r.Owner))
		}
	}
	want := []string{
		"public: app.example.com CNAME t.cfargotunnel.com true evil/app",
		"internal: node1.in.example.com A 10.0.0.1 false ",
		"internal: plain.in.example.com CNAME node1.in.example.com false plain",
		"internal: app.in.example.com CNAME node1.in.example.com false web/app",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(base[0].Records) != 1 {
		t.Error("the base has changed")
	}
}

func FuzzHosts(f *testing.F) {
	f.Add("caddy", "a.example.com:443, http://*.b.example.com/x")
	f.Add("caddy_1", "{{ if }} \x00 ::1 [::1]:443")
	f.Fuzz(func(t *testing.T, key, value string) {
		for _, host := range Hosts(map[string]string{key: value}) {
			if parsed, err := networks.ParseHost(host); err != nil || parsed != host {
				t.Errorf("%q gives %q: %v", value, host, err)
			}
		}
	})
}

// fakeDocker answers from its fields; each call of Events takes one stream.
type fakeDocker struct {
	services chan []swarm.Service // nil: the list fails
	streams  chan stream
}

type stream struct {
	messages chan events.Message
	failures chan error
}

func (f *fakeDocker) ServiceList(ctx context.Context, _ swarm.ServiceListOptions) ([]swarm.Service, error) {
	select {
	case s := <-f.services:
		if s == nil {
			return nil, errors.New("the API is away")
		}
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *fakeDocker) Events(context.Context, events.ListOptions) (<-chan events.Message, <-chan error) {
	s := <-f.streams
	return s.messages, s.failures
}

func list(names ...string) []swarm.Service {
	out := []swarm.Service{}
	for _, n := range names {
		out = append(out, swarm.Service{Spec: swarm.ServiceSpec{Annotations: swarm.Annotations{Name: n}}})
	}
	return out
}

func newStream() stream { return stream{make(chan events.Message), make(chan error)} }

func TestWatch(t *testing.T) {
	docker := &fakeDocker{services: make(chan []swarm.Service), streams: make(chan stream, 4)}
	w := &Watcher{Docker: docker, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Resync: time.Hour, Settle: 2 * time.Second}
	told := make(chan []Service)
	var stale func() bool // of the last list that was told
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- w.Run(ctx, func(s []Service, is func() bool) {
			stale = is
			told <- s
		})
	}()
	expect := func(n int) {
		t.Helper()
		select {
		case s := <-told:
			if len(s) != n {
				t.Fatalf("told of %d services, want %d", len(s), n)
			}
		case <-time.After(time.Minute):
			t.Fatal("told nothing")
		}
	}
	first := newStream()
	docker.streams <- first
	if !w.Listed().IsZero() {
		t.Error("listed before the first list")
	}
	docker.services <- list("a")
	expect(1)
	old := stale
	if old() || w.Listed().IsZero() {
		t.Errorf("a new list: stale %t, listed %v", old(), w.Listed())
	}
	first.messages <- events.Message{}
	first.messages <- events.Message{} // both are one change
	docker.services <- list("a", "b")
	expect(2)
	first.failures <- io.EOF // the proxy restarts
	second := newStream()
	docker.streams <- second
	docker.services <- nil // and is not ready: nothing is told
	if !old() || !stale() {
		t.Error("the API is away, and the lists are not stale")
	}
	third := newStream()
	docker.streams <- third
	docker.services <- list("a", "b", "c")
	expect(3)
	if stale() || !old() {
		t.Errorf("after it is back: the new list stale %t, the old one %t", stale(), old())
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

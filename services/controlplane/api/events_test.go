package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"skep/internal/polltest"
	"skep/services/controlplane"
)

const someRun = "run/00000000-0000-7000-8000-000000000000"

// sse is a client of server-sent events.
type sse struct {
	cancel context.CancelFunc
	res    *http.Response
	lines  *bufio.Scanner
	last   string
}

func (s *service) follow(t testing.TB, token, query, lastID string) *sse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	r := s.request(t, "GET", Prefix+"/events"+query, token, nil).WithContext(ctx)
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("got %s %v", res.Status, res.Header)
	}
	return &sse{cancel: cancel, res: res, lines: bufio.NewScanner(res.Body)}
}

// next is the next event, or an error when the stream has ended.
func (c *sse) next() (Event, error) {
	var e Event
	for c.lines.Scan() {
		field, content, _ := strings.Cut(c.lines.Text(), ": ")
		switch field {
		case "id":
			c.last = content
		case "data":
			if err := json.Unmarshal([]byte(content), &e); err != nil {
				return e, err
			}
		case "":
			if e.ID > 0 {
				if c.last != strconv.FormatInt(e.ID, 10) {
					return e, fmt.Errorf("event %d has the id %s", e.ID, c.last)
				}
				return e, nil
			}
		}
	}
	return e, errors.Join(errors.New("the stream ended"), c.lines.Err())
}

func (c *sse) expect(t testing.TB, ids ...int64) {
	t.Helper()
	for _, id := range ids {
		e, err := c.next()
		if err != nil || e.ID != id {
			t.Fatalf("got %+v, %v, want %d", e, err, id)
		}
	}
}

// followed waits until so many clients follow.
func (s *service) followed(t testing.TB, n int) {
	t.Helper()
	polltest.Until(t, func() error {
		s.hub.mu.Lock()
		defer s.hub.mu.Unlock()
		if len(s.hub.clients) != n {
			return fmt.Errorf("%d clients follow, want %d", len(s.hub.clients), n)
		}
		return nil
	})
}

func TestServerSentEvents(t *testing.T) {
	f := newFakeStore()
	s := serve(t, f)
	token := f.token("reader", controlplane.ScopeRead)
	f.publish(someRun, "run.queued")       // 1
	f.publish("project/home", "run.ended") // 2
	f.publish(someRun, "run.started")      // 3
	polltest.Until(t, func() error {
		c := s.follow(t, token, "", "")
		for c.lines.Scan() {
			if id, ok := strings.CutPrefix(c.lines.Text(), "id: "); ok && id == "3" {
				return nil
			} else if ok {
				return errors.New(c.lines.Text())
			}
		}
		return errNotYet
	})
	s.follow(t, token, "?after=0", "").expect(t, 1, 2, 3)
	c := s.follow(t, token, "?after=0&topics="+someRun, "")
	c.expect(t, 1, 3)
	f.publish("project/home", "run.queued") // 4
	f.publish(someRun, "run.ended")         // 5
	c.expect(t, 5)
	// EventSource comes back with the first address and the last id.
	s.follow(t, token, "?after=0", "4").expect(t, 5)
	// Who comes back before an event comes back to where it was.
	fresh := s.follow(t, token, "?topics=project/other", "")
	polltest.Until(t, func() error {
		if !fresh.lines.Scan() {
			return fresh.lines.Err()
		}
		if fresh.lines.Text() != "id: 5" {
			return errNotYet
		}
		return nil
	})
	f.mu.Lock()
	f.events = append(f.events, controlplane.Event{ID: 6, Topic: someRun, Type: "x\nid: 99", At: time.Unix(6, 0), Data: []byte(`"a\nb"`)})
	f.mu.Unlock()
	f.publish(someRun, "run.ended") // 7
	c.expect(t, 6, 7)
	for _, query := range []string{
		"?topics=run/x", "?topics=x", "?topics=host/a", "?topics=project/A", "?topics=,", "?after=-1", "?after=x", "?after=9999999999999999999",
		"?topics=" + strings.Repeat("delivery,", maxTopics) + "delivery",
	} {
		if a := s.call(t, "GET", Prefix+"/events"+query, token, nil); a.status != 422 {
			t.Errorf("%s: %d", query, a.status)
		}
	}
}

// TestNothingIsLostBetweenStoreAndHub publishes while the past is being read.
func TestNothingIsLostBetweenStoreAndHub(t *testing.T) {
	f := newFakeStore()
	s := serve(t, f)
	token := f.token("reader", controlplane.ScopeRead)
	var want []int64
	for range 2*eventBatch + 10 {
		want = append(want, f.publish(someRun, "x"))
	}
	polltest.Until(t, func() error {
		s.hub.mu.Lock()
		defer s.hub.mu.Unlock()
		if s.hub.position != want[len(want)-1] {
			return errNotYet
		}
		return nil
	})
	// Each look into the store is followed by one more event, for a while.
	more := 20
	f.mu.Lock()
	f.since = func() {
		f.mu.Lock()
		if more > 0 {
			more--
			id := int64(len(f.events) + 1)
			f.events = append(f.events, controlplane.Event{ID: id, Topic: someRun, Type: "y", At: time.Unix(id, 0)})
		}
		f.mu.Unlock()
	}
	f.mu.Unlock()
	c := s.follow(t, token, "?after=0", "")
	c.expect(t, want...)
	f.mu.Lock()
	f.since = nil
	f.mu.Unlock()
	last := f.publish(someRun, "z")
	for id := int64(len(want) + 1); id <= last; id++ {
		c.expect(t, id)
	}
}

func TestSlowClientIsSentAwayAndLosesNothing(t *testing.T) {
	f := newFakeStore()
	s := serve(t, f)
	token := f.token("reader", controlplane.ScopeRead)
	<-s.hub.started
	// A client that takes nothing, beside one that keeps up.
	slow, _, err := s.hub.subscribe(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.hub.leave(slow)
	c := s.follow(t, token, "?after=0", "")
	s.followed(t, 2)
	for i := range clientBuffer + 1 {
		id := f.publish(someRun, "x")
		c.expect(t, id)
		if i < clientBuffer {
			select {
			case <-slow.over:
				t.Fatalf("sent away after %d events: %v", i+1, slow.reason)
			default:
			}
		}
	}
	<-slow.over
	if !errors.Is(slow.reason, errSlow) {
		t.Errorf("sent away with %v", slow.reason)
	}
	s.followed(t, 1)
	resumed := s.follow(t, token, "?after=0", "")
	for id := range int64(clientBuffer + 1) {
		resumed.expect(t, id+1)
	}
}

func TestStreamsEnd(t *testing.T) {
	f := newFakeStore()
	s := serve(t, f, func(o *Options) { o.MaxStreams, o.Heartbeat = 2, 10*time.Millisecond })
	token := f.token("reader", controlplane.ScopeRead)
	first := s.follow(t, token, "", "")
	second := s.follow(t, token, "", "")
	if a := s.call(t, "GET", Prefix+"/events", token, nil); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("one too many: %d %s", a.status, a.body)
	}
	first.cancel()
	s.followed(t, 1)
	// A quiet stream is kept alive.
	polltest.Until(t, func() error {
		if !second.lines.Scan() {
			return second.lines.Err()
		}
		if second.lines.Text() != ":" {
			return errNotYet
		}
		return nil
	})
	f.revoke(token)
	if e, err := second.next(); err == nil {
		t.Errorf("after the token was revoked: %+v", e)
	}
	s.followed(t, 0)
}

func dial(ctx context.Context, s *service, token, query string, change ...func(*websocket.DialOptions)) (*websocket.Conn, *http.Response, error) {
	o := &websocket.DialOptions{HTTPHeader: http.Header{}}
	if token != "" {
		o.HTTPHeader.Set("Authorization", "Bearer "+token)
	}
	for _, c := range change {
		c(o)
	}
	return websocket.Dial(ctx, "ws"+strings.TrimPrefix(s.url, "http")+Prefix+"/events"+query, o)
}

func TestWebSocket(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f := newFakeStore()
	s := serve(t, f)
	token := f.token("reader", controlplane.ScopeRead)
	f.publish(someRun, "run.queued")
	for name, change := range map[string]func(*websocket.DialOptions){
		"token in a header": func(o *websocket.DialOptions) { o.HTTPHeader.Set("Origin", s.url) },
		"token in a protocol": func(o *websocket.DialOptions) {
			o.HTTPHeader.Del("Authorization")
			o.Subprotocols = []string{protocol, protocolToken + token}
		},
	} {
		conn, res, err := dial(ctx, s, token, "?after=0&topics="+someRun, change)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if strings.Contains(fmt.Sprint(res.Header), token) {
			t.Errorf("%s: the token came back: %v", name, res.Header)
		}
		var got []string
		for range 2 {
			_, message, err := conn.Read(ctx)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var e Event
			if err := json.Unmarshal(message, &e); err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(e.ID, e.Type))
		}
		if want := []string{"0" + opened, "1run.queued"}; !slices.Equal(got, []string{"0 " + opened, "1 run.queued"}) && !slices.Equal(got, want) {
			t.Errorf("%s: got %q", name, got)
		}
		conn.CloseNow()
	}
	s.followed(t, 0)
	for name, c := range map[string]struct {
		status int
		change func(*websocket.DialOptions)
	}{
		"no token": {401, func(o *websocket.DialOptions) { o.HTTPHeader.Del("Authorization") }},
		"two tokens": {400, func(o *websocket.DialOptions) {
			o.HTTPHeader.Del("Authorization")
			o.Subprotocols = []string{protocolToken + token, protocolToken + "x"}
		}},
		"another origin":  {403, func(o *websocket.DialOptions) { o.HTTPHeader.Set("Origin", "https://evil.example") }},
		"an empty origin": {403, func(o *websocket.DialOptions) { o.HTTPHeader.Set("Origin", "null") }},
	} {
		conn, res, err := dial(ctx, s, token, "", c.change)
		if err == nil {
			conn.CloseNow()
			t.Errorf("%s: let in", name)
			continue
		}
		if res == nil || res.StatusCode != c.status || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %v, %v", name, res, err)
		}
	}
	// A client has nothing to say.
	conn, _, err := dial(ctx, s, token, "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if err := conn.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, _, err = conn.Read(ctx)
	}
	if websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("ended with %v", err)
	}
	s.followed(t, 0)
	if strings.Contains(s.logged.String(), token) {
		t.Error("the token is in the log")
	}
}

// TestDrain: a server that shuts down ends its streams, and says so.
func TestDrain(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f := newFakeStore()
	s := serve(t, f)
	token := f.token("reader", controlplane.ScopeRead)
	c := s.follow(t, token, "", "")
	conn, _, err := dial(ctx, s, token, "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	s.followed(t, 2)
	s.stop()
	if e, err := c.next(); err == nil {
		t.Errorf("got %+v", e)
	}
	err = nil
	for err == nil {
		_, _, err = conn.Read(ctx)
	}
	if websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("ended with %v", err)
	}
	if a := s.call(t, "GET", Prefix+"/events", token, nil); a.status != 503 {
		t.Errorf("afterwards: %d", a.status)
	}
}

// TestRealEvents come from the real store through LISTEN.
func TestRealEvents(t *testing.T) {
	db := newStore(t)
	s := serve(t, db)
	token := newToken(t, db, "reader", controlplane.ScopeRead)
	id, _, err := db.Start(t.Context(), controlplane.Run{Key: "k", Kind: controlplane.RunTask, Task: "t"})
	if err != nil {
		t.Fatal(err)
	}
	c := s.follow(t, token, "?after=0&topics=run/"+string(id), "")
	if e, err := c.next(); err != nil || e.Type != "run.queued" {
		t.Fatalf("got %+v, %v", e, err)
	}
	if err := errors.Join(db.Begin(t.Context(), id), db.Finish(t.Context(), id, controlplane.RunSucceeded, nil, "")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"run.started", "run.ended"} {
		if e, err := c.next(); err != nil || e.Type != want || e.Topic != "run/"+string(id) {
			t.Fatalf("got %+v, %v, want %s", e, err, want)
		}
	}
}

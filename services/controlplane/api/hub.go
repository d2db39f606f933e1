package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"skep/services/controlplane"
)

// Event is something that happened.
type Event struct {
	ID    int64           `json:"id"`
	Topic string          `json:"topic"`
	Type  string          `json:"type"`
	At    time.Time       `json:"at"`
	Data  json.RawMessage `json:"data"`
}

// frame is an event on its way to clients, encoded once for all of them.
type frame struct {
	id    int64
	topic string
	kind  string
	data  []byte
}

func newFrame(e controlplane.Event) (*frame, error) {
	data, err := json.Marshal(Event{ID: e.ID, Topic: e.Topic, Type: e.Type, At: e.At.UTC(), Data: document(e.Data)})
	return &frame{e.ID, e.Topic, e.Type, data}, err
}

// Why a stream ended. Clients go on after the last id that they saw.
var (
	errSlow     = errors.New("the client did not keep up")
	errDraining = errors.New("the server shuts down")
)

const (
	// eventBatch is how many events are read at once.
	eventBatch = 500
	// clientBuffer is how far a client may be behind the others.
	// A feed that was away for a while comes in batches, and fast clients keep up.
	clientBuffer = 2 * eventBatch
	// again is after how long a feed that could not be read is tried anew.
	again = time.Second
	// firstWord is how long a client waits for the hub to know where the feed is.
	firstWord = 5 * time.Second
)

// hub reads the feed once, for all clients of this process.
type hub struct {
	events  Events
	log     *slog.Logger
	metrics *metrics
	started chan struct{} // closed when position is known
	ended   chan struct{} // closed when there will be no more

	mu       sync.Mutex
	position int64 // of the last event that clients got
	closed   bool
	clients  map[*subscription]struct{}
	present  sync.WaitGroup // those that have not left
}

// subscription is a client's part of the feed. The hub never waits for it.
type subscription struct {
	topics map[string]struct{} // none: all
	frames chan *frame
	over   chan struct{}
	reason error // read after over is closed
}

func newHub(events Events, log *slog.Logger, m *metrics) *hub {
	return &hub{
		events: events, log: log, metrics: m, started: make(chan struct{}), ended: make(chan struct{}), clients: map[*subscription]struct{}{},
	}
}

// run reads until ctx ends, and then ends all streams and waits for them: a
// server that shuts down does not wait for WebSockets.
func (h *hub) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer h.present.Wait()
	defer h.end()
	wake := make(chan struct{}, 1)
	listened := make(chan struct{})
	var deaf error // read after listened is closed
	go func() {
		defer close(listened)
		deaf = h.events.Listen(ctx, func(id int64) {
			h.begin(id)
			select {
			case wake <- struct{}{}:
			default: // it will look anyway
			}
		})
	}()
	h.pump(ctx, wake, listened)
	ended := ctx.Err() != nil
	cancel()
	<-listened
	if ended {
		return nil
	}
	return fmt.Errorf("nobody tells of events any more: %w", deaf)
}

// pump reads until ctx ends, or nobody listens any more.
func (h *hub) pump(ctx context.Context, wake, listened <-chan struct{}) {
	retry := time.NewTimer(again)
	retry.Stop()
	defer retry.Stop()
	for {
		select {
		case <-wake:
		case <-retry.C:
		case <-listened:
			return
		case <-ctx.Done():
			return
		}
		if err := h.read(ctx); err != nil && ctx.Err() == nil {
			h.log.WarnContext(ctx, "events wait", "error", err)
			retry.Reset(again)
		}
	}
}

func (h *hub) begin(position int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.started:
	default:
		h.position = position
		close(h.started)
	}
}

// read brings clients what is new. Only the pump calls it.
func (h *hub) read(ctx context.Context) error {
	for {
		h.mu.Lock()
		from := h.position
		h.mu.Unlock()
		events, err := h.events.Since(ctx, nil, from, eventBatch)
		if err != nil {
			return err
		}
		for _, e := range events {
			f, err := newFrame(e)
			if err != nil {
				return err
			}
			h.publish(f)
		}
		if len(events) < eventBatch {
			return nil
		}
	}
}

func (h *hub) publish(f *frame) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.position = f.id
	for c := range h.clients {
		if _, ok := c.topics[f.topic]; !ok && len(c.topics) > 0 {
			continue
		}
		select {
		case c.frames <- f:
		default:
			h.metrics.slow.Inc()
			h.drop(c, errSlow)
		}
	}
}

// drop needs the lock.
func (h *hub) drop(c *subscription, reason error) {
	if _, ok := h.clients[c]; ok {
		delete(h.clients, c)
		c.reason = reason
		close(c.over)
	}
}

// subscribe gives all events after the position that it returns.
func (h *hub) subscribe(ctx context.Context, topics []string) (*subscription, int64, error) {
	wait := time.NewTimer(firstWord)
	defer wait.Stop()
	select {
	case <-h.started:
	case <-wait.C:
		return nil, 0, unavailable("The feed of events cannot be read now.", retryAfter)
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
	c := &subscription{topics: make(map[string]struct{}, len(topics)), frames: make(chan *frame, clientBuffer), over: make(chan struct{})}
	for _, t := range topics {
		c.topics[t] = struct{}{}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, 0, unavailable("The server shuts down.", retryAfter)
	}
	h.clients[c] = struct{}{}
	h.present.Add(1)
	return c, h.position, nil
}

// leave is called once by each client.
func (h *hub) leave(c *subscription) {
	defer h.present.Done()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(c, nil)
}

func (h *hub) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	close(h.ended)
	for c := range h.clients {
		h.drop(c, errDraining)
	}
}

package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"skep/services/controlplane"
)

// topicKinds are what topics begin with.
var topicKinds = []string{"run", "project", "task"}

const (
	maxTopics     = 100
	topicDelivery = "delivery"
)

// Following is what a client wants to follow, and from where.
type Following struct {
	Topics      string `query:"topics" maxLength:"8000" doc:"Separated by commas: run/<id>, project/<name>, task/<name>, delivery. Empty: all"`
	After       string `query:"after" pattern:"^[0-9]{1,18}$" doc:"The id of the last event that was seen. Empty: from now on"`
	LastEventID string `header:"Last-Event-ID" pattern:"^[0-9]{0,18}$" doc:"As after, and before it: what EventSource sends when it comes back"`
}

// parse is topics, and the last event that was seen; -1 if none was.
func (f Following) parse() (topics []string, after int64, err error) {
	if f.Topics != "" {
		topics = strings.Split(f.Topics, ",")
	}
	if len(topics) > maxTopics {
		return nil, 0, refuse(at("query.topics", "has %d topics; %d are taken", len(topics), maxTopics))
	}
	for _, t := range topics {
		if !isTopic(t) {
			return nil, 0, refuse(at("query.topics", "%q is none of run/<id>, project/<name>, task/<name> and delivery", t))
		}
	}
	last := f.After
	if f.LastEventID != "" {
		last = f.LastEventID
	}
	if last == "" {
		return topics, -1, nil
	}
	after, err = strconv.ParseInt(last, 10, 64)
	if err != nil {
		return nil, 0, refuse(at("query.after", "is no id of an event"))
	}
	return topics, after, nil
}

func isTopic(t string) bool {
	kind, name, ok := strings.Cut(t, "/")
	if !ok {
		return t == topicDelivery
	}
	if kind == "run" {
		_, err := controlplane.ParseRunID(name)
		return err == nil
	}
	_, err := controlplane.ParseName(name)
	return err == nil && slices.Contains(topicKinds, kind)
}

func (a *API) eventRoutes() {
	responses := stream("text/event-stream", "Events, until the client leaves")
	responses["200"].Content["text/event-stream"].Schema = a.huma.OpenAPI().Components.Schemas.Schema(eventType, true, "")
	responses["101"] = &huma.Response{Description: "The same over a WebSocket, a message of JSON for each event. Offer the protocol " + protocol +
		", and the token as the protocol " + protocolToken + "<token> if Authorization cannot be sent"}
	register(a, operation{
		id: "event.follow", method: http.MethodGet, path: "/events", summary: "Follow what happens, by server-sent events or a WebSocket",
		scope: controlplane.ScopeRead, timeout: forever, content: responses,
	}, func(ctx context.Context, in *Following) (*huma.StreamResponse, error) {
		topics, after, err := in.parse()
		if err != nil {
			return nil, err
		}
		leave, err := a.enter(streamEvents)
		if err != nil {
			return nil, err
		}
		client, position, err := a.hub.subscribe(ctx, topics)
		if err != nil {
			leave()
			return nil, err
		}
		if after < 0 {
			after = position
		}
		return &huma.StreamResponse{Body: func(c huma.Context) {
			defer leave()
			defer a.hub.leave(client)
			r, w := humago.Unwrap(c)
			f := &follower{api: a, client: client, topics: topics, last: after}
			if isWebSocket(r) {
				f.webSocket(c.Context(), w, r)
				return
			}
			f.serverSent(c.Context(), w)
		}}, nil
	})
}

// enter takes one of the places for streams.
func (a *API) enter(kind string) (leave func(), err error) {
	select {
	case a.streams <- struct{}{}:
	default:
		return nil, unavailable("There are too many clients that follow something.", retryAfter)
	}
	gauge := a.metrics.streams.WithLabelValues(kind)
	gauge.Inc()
	return func() {
		gauge.Dec()
		<-a.streams
	}, nil
}

// follower brings a client the events after the last one that it saw.
type follower struct {
	api    *API
	client *subscription
	topics []string
	last   int64
}

// outlet is a way to a client. A call that fails, or takes too long, is the
// stream's end.
type outlet interface {
	// open says where the stream begins, so that a client that sees no event can
	// come back too.
	open(ctx context.Context, last int64) error
	send(context.Context, *frame) error
	beat(context.Context) error
}

// follow returns why it ended. First comes what is in the store, then what the
// hub has kept meanwhile and from then on; what is in both is sent once.
func (f *follower) follow(ctx context.Context, to outlet) error {
	if err := to.open(ctx, f.last); err != nil {
		return err
	}
	for {
		events, err := f.api.options.Store.Since(ctx, f.topics, f.last, eventBatch)
		if err != nil {
			return err
		}
		for _, e := range events {
			next, err := newFrame(e)
			if err != nil {
				return err
			}
			if err := f.send(ctx, to, next); err != nil {
				return err
			}
		}
		if len(events) < eventBatch {
			break
		}
	}
	heart := time.NewTicker(f.api.options.Heartbeat)
	defer heart.Stop()
	for {
		select {
		case next := <-f.client.frames:
			if err := f.send(ctx, to, next); err != nil {
				return err
			}
		case <-f.client.over:
			return f.client.reason
		case <-heart.C:
			if err := errors.Join(f.api.stillGood(ctx), to.beat(ctx)); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *follower) send(ctx context.Context, to outlet, next *frame) error {
	if next.id <= f.last {
		return nil
	}
	if err := to.send(ctx, next); err != nil {
		return err
	}
	f.last = next.id
	return nil
}

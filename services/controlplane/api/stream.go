package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/coder/websocket"

	"skep/services/controlplane"
)

var eventType = reflect.TypeFor[Event]()

const (
	// protocol is that of the WebSocket.
	protocol = "skep.events"
	// writeTime is what a client has for one piece.
	writeTime = 10 * time.Second
	// comeBack is when a client that lost the stream should try again, in ms.
	comeBack = 2000
)

// streamWriter writes pieces that go out at once, each with a deadline.
type streamWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func newStream(w http.ResponseWriter) *streamWriter {
	return &streamWriter{w, http.NewResponseController(w)}
}

func (s *streamWriter) write(p []byte) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTime)) // a recorder of a test has none
	if len(p) > 0 {
		if _, err := s.w.Write(p); err != nil {
			return err
		}
	}
	return s.control.Flush()
}

// serverSent is https://html.spec.whatwg.org/multipage/server-sent-events.html
func (f *follower) serverSent(ctx context.Context, w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	err := f.follow(ctx, serverSent{newStream(w)})
	f.left(ctx, err)
}

type serverSent struct{ *streamWriter }

// open sends an id without data, which is kept and makes no event.
func (s serverSent) open(_ context.Context, last int64) error {
	return s.write(fmt.Appendf(nil, "retry: %d\nid: %d\n\n", comeBack, last))
}

// A line break in a type would begin a field of its own.
var oneLine = strings.NewReplacer("\r", " ", "\n", " ")

func (s serverSent) send(_ context.Context, f *frame) error {
	return s.write(fmt.Appendf(nil, "id: %d\nevent: %s\ndata: %s\n\n", f.id, oneLine.Replace(f.kind), f.data))
}

func (s serverSent) beat(context.Context) error { return s.write([]byte(":\n\n")) }

func isWebSocket(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// webSocket refuses pages of other origins: a page of this one has no cookie
// that they could use, but there is no reason to let them in.
func (f *follower) webSocket(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	tidy := &refusals{ResponseWriter: w, request: r}
	conn, err := websocket.Accept(tidy, r, &websocket.AcceptOptions{Subprotocols: []string{protocol}})
	if err != nil {
		return // it has answered
	}
	ctx, cancel := context.WithCancelCause(ctx)
	read := make(chan struct{})
	defer func() {
		_ = conn.CloseNow() // it may be closed
		cancel(nil)
		<-read
	}()
	go func() { // it also answers pings and takes the answers to ours
		defer close(read)
		_, _, err := conn.Reader(ctx)
		if err == nil {
			// First the farewell: a write whose context ends cuts the connection.
			_ = conn.Close(websocket.StatusPolicyViolation, "nothing is taken here")
			err = errTalks
		}
		cancel(err)
	}()
	err = f.follow(ctx, webSocket{conn})
	f.left(ctx, err)
	switch {
	case ctx.Err() != nil:
		return // the client is gone, or has been told
	case errors.Is(err, errSlow):
		err = conn.Close(websocket.StatusTryAgainLater, "too slow: go on after the last id")
	case errors.Is(err, errDraining):
		err = conn.Close(websocket.StatusGoingAway, "go on after the last id")
	case errors.Is(err, controlplane.ErrDenied):
		err = conn.Close(websocket.StatusPolicyViolation, "the token is not good any more")
	default:
		err = conn.Close(websocket.StatusInternalError, "go on after the last id")
	}
	_ = err // the client may be gone, or not answer
}

// errTalks: clients have nothing to say, so whoever does is mistaken.
var errTalks = errors.New("the client sent a message")

type webSocket struct{ conn *websocket.Conn }

// opened is the type of the message that says where the stream begins.
const opened = "stream.opened"

func (s webSocket) open(ctx context.Context, last int64) error {
	first, err := json.Marshal(Event{ID: last, Type: opened, At: time.Now().UTC(), Data: document(nil)})
	if err != nil {
		return err
	}
	return s.write(ctx, first)
}

func (s webSocket) send(ctx context.Context, f *frame) error { return s.write(ctx, f.data) }

func (s webSocket) write(ctx context.Context, p []byte) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageText, p)
}

func (s webSocket) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	return s.conn.Ping(ctx)
}

func (f *follower) left(ctx context.Context, err error) {
	if ctx.Err() == nil && err != nil && !errors.Is(err, errDraining) {
		f.api.log.WarnContext(ctx, "a stream of events ended", "error", err, "last", f.last)
	}
}

// refusals makes problems of the plain answers that the library gives to what
// is no handshake.
type refusals struct {
	http.ResponseWriter
	request *http.Request
	refused bool
}

func (w *refusals) WriteHeader(status int) {
	if status == http.StatusSwitchingProtocols {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.refused = true
	writeProblem(w.ResponseWriter, w.request, status, "This is no WebSocket handshake of a page of this origin.")
}

func (w *refusals) Write(p []byte) (int, error) {
	if w.refused {
		return len(p), nil // the library's words
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap leads the library to the connection.
func (w *refusals) Unwrap() http.ResponseWriter { return w.ResponseWriter }

package dockerproxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	maxIdle  = 64 // connections between requests
	idleTime = 90 * time.Second
)

// transport speaks to Docker. A request without a body is written and its
// answer read by the goroutine that asks, without the two that net/http keeps
// for each connection: that is a third of what a short request costs. Whatever
// has a body or changes protocol takes net/http's way.
type transport struct {
	dial  func(context.Context) (net.Conn, error)
	other *http.Transport

	mu   sync.Mutex
	idle []*connection // the one used last is last
}

// connection is one to Docker, with one request on it at a time.
type connection struct {
	net.Conn
	r     *bufio.Reader
	w     *bufio.Writer
	since time.Time // idle
	used  bool
}

func newTransport(socket string) *transport {
	dial := func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "unix", socket)
	}
	return &transport{dial: dial, other: &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableCompression:  true,
		MaxIdleConnsPerHost: maxIdle,
		IdleConnTimeout:     idleTime,
	}}
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	bare := r.Body == nil || r.Body == http.NoBody
	if !bare || r.Method != http.MethodGet && r.Method != http.MethodHead || r.Header.Get("Upgrade") != "" {
		return t.other.RoundTrip(r)
	}
	for {
		c, err := t.take(r.Context())
		if err != nil {
			return nil, err
		}
		response, err := t.exchange(c, r)
		if err == nil {
			return response, nil
		}
		c.Close()
		if cause := r.Context().Err(); cause != nil {
			return nil, cause
		}
		if !c.used { // else Docker may have hung up while the connection lay idle
			return nil, err
		}
	}
}

// take returns a connection that lay idle, or a new one.
func (t *transport) take(ctx context.Context) (*connection, error) {
	t.mu.Lock()
	if n := len(t.idle); n > 0 {
		c := t.idle[n-1]
		t.idle = t.idle[:n-1]
		t.mu.Unlock()
		return c, nil
	}
	t.mu.Unlock()
	c, err := t.dial(ctx)
	if err != nil {
		return nil, err
	}
	return &connection{Conn: c, r: bufio.NewReaderSize(c, 4<<10), w: bufio.NewWriterSize(c, 1<<10)}, nil
}

// put keeps a connection, and closes those that lay idle too long.
func (t *transport) put(c *connection) {
	c.used, c.since = true, time.Now()
	t.mu.Lock()
	t.idle = append(t.idle, c)
	var old []*connection
	for len(t.idle) > maxIdle || c.since.Sub(t.idle[0].since) > idleTime {
		old = append(old, t.idle[0])
		t.idle = t.idle[1:]
	}
	t.mu.Unlock()
	for _, c := range old {
		c.Close()
	}
}

var errInformational = errors.New("the answer has a status that ends no request")

func (t *transport) exchange(c *connection, r *http.Request) (*http.Response, error) {
	// The end of the request ends the connection, whatever it waits for.
	stop := context.AfterFunc(r.Context(), func() { c.Close() })
	response, err := c.ask(r)
	if err != nil {
		stop()
		return nil, err
	}
	b := &body{from: response.Body, connection: c, gone: r.Context().Err, stop: stop}
	if !response.Close {
		b.home = t
	}
	if response.Body == http.NoBody {
		b.end()
		return response, nil
	}
	response.Body = b
	return response, nil
}

func (c *connection) ask(r *http.Request) (*http.Response, error) {
	if err := r.Write(c.w); err != nil {
		return nil, err
	}
	if err := c.w.Flush(); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(c.r, r)
	if err == nil && response.StatusCode < http.StatusOK {
		err = errInformational
	}
	return response, err
}

// body gives its connection back when it was read to the end, and closes it
// otherwise.
type body struct {
	from       io.ReadCloser
	connection *connection
	home       *transport   // nil where Docker closes the connection
	gone       func() error // why nobody reads any more, as net/http says it
	stop       func() bool
	ended      bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	switch gone := b.gone(); {
	case err == io.EOF:
		b.end()
	case err != nil && gone != nil:
		err = gone
	}
	return n, err
}

// end is that of the answer. What lies in the buffer then belongs to none.
func (b *body) end() {
	if b.ended {
		return
	}
	b.ended = true
	if b.stop() && b.home != nil && b.connection.r.Buffered() == 0 {
		b.home.put(b.connection)
		return
	}
	b.connection.Close()
}

func (b *body) Close() error {
	if b.ended {
		return nil
	}
	b.ended = true
	b.stop()
	return b.connection.Close()
}

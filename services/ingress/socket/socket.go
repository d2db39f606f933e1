// Package socket keeps the sockets of the ingress open from one configuration
// of Caddy to the next.
//
// Left to itself, Caddy opens a second socket on an address (SO_REUSEPORT)
// when it loads a configuration, and closes the first. Linux resets the
// connections that wait in the first one's queue, unless
// net.ipv4.tcp_migrate_req is set: under load, each new configuration loses a
// few. Here all configurations share one socket, and connections go to the
// newest as soon as it listens.
//
// What the one before has accepted is still its own. When it is told to shut
// down, Go's HTTP server drops a connection whose first request it has not
// read. Caddy's shutdown_delay is the time that such a request gets: Caddy
// counts no users of these sockets, so it keeps to the delay at each load.
package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Network is TCP over sockets that are kept, in an address of Caddy's such as
// "skep/:443". HTTP/3 stays with Caddy, which shares its sockets.
const Network = "skep"

func init() {
	caddy.RegisterNetwork(Network, listen)
	caddyhttp.RegisterNetworkHTTP3(Network, "udp")
}

// open are the sockets by their address.
var (
	openMu sync.Mutex
	open   = map[string]*socket{}
)

// socket accepts connections for all who share it.
type socket struct {
	net.Listener
	address string

	// Guarded by openMu.
	shares  []*share      // the newest is last
	changed chan struct{} // closed when shares change
}

type accepted struct {
	conn net.Conn
	err  error
}

// listen is a caddy.ListenerFunc.
func listen(ctx context.Context, _, host, ports string, offset uint, config net.ListenConfig) (any, error) {
	address, err := caddy.ParseNetworkAddress("tcp/" + net.JoinHostPort(host, ports))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	key := address.JoinHostPort(offset)
	openMu.Lock()
	defer openMu.Unlock()
	s := open[key]
	if s == nil {
		listener, err := address.Listen(ctx, offset, net.ListenConfig{KeepAlive: -1}) // every share sets its own
		if err != nil {
			return nil, err
		}
		s = &socket{Listener: listener.(net.Listener), address: key, changed: make(chan struct{})}
		open[key] = s
		go s.accept()
	}
	own := &share{socket: s, keepAlive: config.KeepAliveConfig, accepted: make(chan accepted), closed: make(chan struct{})}
	s.set(append(s.shares, own))
	// Caddy ends the context of a configuration before it shuts down what it
	// had started of one that fails.
	context.AfterFunc(ctx, own.yield)
	return own, nil
}

// set changes who shares the socket; openMu is held.
func (s *socket) set(shares []*share) {
	s.shares = shares
	close(s.changed)
	s.changed = make(chan struct{})
}

// newest is who gets the next connection, until changed is closed.
func (s *socket) newest() (own *share, changed <-chan struct{}) {
	openMu.Lock()
	defer openMu.Unlock()
	if len(s.shares) == 0 {
		return nil, nil
	}
	return s.shares[len(s.shares)-1], s.changed
}

// accept hands out what arrives until the socket is closed. Who gets an error
// waits before it asks again.
func (s *socket) accept() {
	for {
		conn, err := s.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		s.give(accepted{conn, err})
	}
}

func (s *socket) give(a accepted) {
	for {
		to, changed := s.newest()
		if to == nil {
			if a.conn != nil {
				a.conn.Close()
			}
			return
		}
		select {
		case to.accepted <- a:
			return
		case <-changed:
		}
	}
}

// leave closes the socket behind its last share.
func (s *socket) leave(own *share) error {
	openMu.Lock()
	defer openMu.Unlock()
	s.set(slices.DeleteFunc(slices.Clone(s.shares), func(other *share) bool { return other == own }))
	if len(s.shares) > 0 {
		return nil
	}
	delete(open, s.address)
	return s.Listener.Close()
}

// yield lets the share before it have what comes next.
func (s *share) yield() {
	openMu.Lock()
	defer openMu.Unlock()
	if i := slices.Index(s.shares, s); i > 0 {
		s.set(slices.Insert(slices.Delete(slices.Clone(s.shares), i, i+1), 0, s))
	}
}

// share is the listener of one configuration.
type share struct {
	*socket
	keepAlive net.KeepAliveConfig
	accepted  chan accepted
	once      sync.Once
	closed    chan struct{}
}

// Accept waits for a connection. None comes while there is a newer share.
func (s *share) Accept() (net.Conn, error) {
	select {
	case <-s.closed:
		return nil, net.ErrClosed
	case a := <-s.accepted:
		if tcp, ok := a.conn.(*net.TCPConn); ok {
			_ = tcp.SetKeepAliveConfig(s.keepAlive) // fails if the client is gone, which its reader finds
		}
		return a.conn, a.err
	}
}

// Close ends Accept. The socket stays open while another configuration has a
// share in it.
func (s *share) Close() (err error) {
	s.once.Do(func() {
		close(s.closed)
		err = s.leave(s)
	})
	return err
}

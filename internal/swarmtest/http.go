package swarmtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// HTTP asks the node for http://host/path and returns the status and the body.
func (s *Swarm) HTTP(host, path string) (int, string, error) {
	request, err := http.NewRequest(http.MethodGet, "http://"+host+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := s.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// Do sends a request to the node, whatever host its URL names; the URL's port
// counts. A redirect is returned, not followed.
func (s *Swarm) Do(request *http.Request) (*http.Response, error) {
	client := &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				_, port, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, err
				}
				return s.dial(ctx, net.JoinHostPort(address, port))
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return client.Do(request)
}

// dial connects from within the node's network namespace.
func (s *Swarm) dial(ctx context.Context, addr string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// The thread is in the other namespace for good: staying locked, it
		// ends with this goroutine.
		runtime.LockOSThread()
		conn, err := s.enterAndDial(ctx, addr)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

func (s *Swarm) enterAndDial(ctx context.Context, addr string) (net.Conn, error) {
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", s.engine.Process.Pid))
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter the node's network: %w", err)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}

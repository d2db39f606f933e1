package swarmtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

// HTTP asks the node for http://host/path and returns the status and the body.
func (n *Node) HTTP(host, path string) (int, string, error) {
	request, err := http.NewRequest(http.MethodGet, "http://"+host+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := n.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// Do sends a request to the node, whatever host its URL names; the URL's port
// counts. A redirect is returned, not followed.
func (n *Node) Do(request *http.Request) (*http.Response, error) {
	client := &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				_, port, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, err
				}
				return dialIn(ctx, n.network(), network, net.JoinHostPort(n.Address, port))
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return client.Do(request)
}

// Listen listens on a free port of the node's address, which containers of every
// node reach that may leave their networks.
func (n *Node) Listen(ctx context.Context) (net.Listener, error) {
	var l net.Listener
	err := onOwnThread(func() error {
		namespace, err := os.Open(n.network())
		if err != nil {
			return err
		}
		defer namespace.Close()
		if err := enter(namespace); err != nil {
			return err
		}
		l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(n.Address, "0"))
		return err
	})
	return l, err
}

// Command makes a command of the machine's that runs on the node's network.
func (n *Node) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + n.network(), name}, args...)...)
}

// network is the file of the node's network namespace.
func (n *Node) network() string { return fmt.Sprintf("/proc/%d/ns/net", n.machine.Pid) }

// DialFrom connects as a container of this node would. The address is a
// number.
func (n *Node) DialFrom(ctx context.Context, container, network, addr string) (net.Conn, error) {
	sandbox, err := n.docker(ctx, nil, "inspect", "-f", "{{.NetworkSettings.SandboxKey}}", container)
	if err != nil {
		return nil, err
	}
	// The file is one that only the node sees.
	return dialIn(ctx, fmt.Sprintf("/proc/%d/root%s", n.machine.Pid, strings.TrimSpace(sandbox)), network, addr)
}

// ResolverFrom looks names up as a container of this node would. A name is
// absolute: it ends with a dot.
func (n *Node) ResolverFrom(container string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return n.DialFrom(ctx, container, network, "127.0.0.11:53") // where the engine answers containers
	}}
}

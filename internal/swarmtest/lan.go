package swarmtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// lan is the network between nodes: a bridge in a network namespace that lives
// as long as the file is open, so at most as long as this process.
type lan struct{ namespace *os.File }

func newLAN() (*lan, error) {
	l := &lan{}
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		var err error
		l.namespace, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err == nil {
		err = l.link("add", "lan", "type", "bridge")
	}
	if err == nil {
		err = l.link("set", "lan", "up")
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// link runs "ip link" beside the bridge.
func (l *lan) link(args ...string) error {
	return onOwnThread(func() error {
		if err := enter(l.namespace); err != nil {
			return err
		}
		if out, err := exec.Command("ip", append([]string{"link"}, args...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip link %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	})
}

func (l *lan) close() error { return l.namespace.Close() }

// onOwnThread runs f where it may change namespaces.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with this goroutine.
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

func enter(network *os.File) error {
	if err := unix.Setns(int(network.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	return nil
}

// dialIn connects from within the network namespace of a file. The address
// is a number: a name would be looked up on another thread.
func dialIn(ctx context.Context, file, network, addr string) (net.Conn, error) {
	var conn net.Conn
	err := onOwnThread(func() error {
		namespace, err := os.Open(file)
		if err != nil {
			return err
		}
		defer namespace.Close()
		if err := enter(namespace); err != nil {
			return err
		}
		conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

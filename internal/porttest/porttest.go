// Package porttest finds addresses for servers of tests that must be told a
// port before they listen.
package porttest

import (
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"sync"
	"testing"
)

// Ports below those that systems give to outgoing connections and to listeners
// that ask for any: nobody gets one by chance between Address and its user.
const first, last = 12000, 31999

var (
	mu    sync.Mutex
	given = map[int]net.PacketConn{} // what claims the port
)

// Address is a port of 127.0.0.1 that is free. This process gets it once, and on
// Linux no test of another package gets it while this process lives.
func Address(t testing.TB) string {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	for range last - first {
		port := first + rand.IntN(last-first+1)
		if _, taken := given[port]; taken {
			continue
		}
		claim, err := claim(port)
		if err != nil {
			continue
		}
		given[port] = claim // also one that a server of somebody else's has
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatalf("no port from %d to %d is free", first, last)
	return ""
}

// claim keeps a port from other processes that ask for one here. An abstract
// socket is no file: its name is free again when its process has ended, however
// it did (unix(7)).
func claim(port int) (net.PacketConn, error) {
	if runtime.GOOS != "linux" {
		return nil, nil
	}
	return net.ListenPacket("unixgram", "@skep-porttest-"+strconv.Itoa(port))
}

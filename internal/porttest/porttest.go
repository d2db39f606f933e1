// Package porttest finds addresses for servers of tests that must be told a
// port before they listen.
package porttest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Ports below those that systems give to outgoing connections and to listeners
// that ask for any: nobody gets one by chance between Address and its user.
const first, last = 12000, 31999

var given sync.Map

// Address is a port of 127.0.0.1 that is free. This process gets it once; tests
// of other packages choose at random, as this one does.
func Address(t testing.TB) string {
	t.Helper()
	for range last - first {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(last-first+1)))
		if _, taken := given.LoadOrStore(address, true); taken {
			continue
		}
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatalf("no port from %d to %d is free", first, last)
	return ""
}

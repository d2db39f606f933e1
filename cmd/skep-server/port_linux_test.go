package main

import (
	"errors"
	"net"
	"strconv"
	"syscall"
	"testing"
)

// A child gets the port that is held for it, also when it is started again, and
// nobody else by chance.
func TestHoldPort(t *testing.T) {
	held, err := holdPort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer held.release()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(held.number))
	for range 2 {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		l.Close()
	}
	// Who asks for any port is held to this rule by the kernel.
	other, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(other)
	if err := syscall.Bind(other, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: held.number}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("somebody else gets the port: %v", err)
	}
}

package main

import (
	"context"
	"fmt"
	"os"
	"syscall"
)

// holdPort keeps a port free for a child, also while that is started again. A
// socket that is bound and does not listen leaves the port to those who ask for
// it and have SO_REUSEADDR, as Go's listeners do; the kernel gives it to nobody
// who asks for any.
func holdPort(context.Context) (port, error) {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return port{}, os.NewSyscallError("socket", err)
	}
	release := func() { _ = syscall.Close(socket) } // nothing was written
	fail := func(call string, err error) (port, error) {
		release()
		return port{}, os.NewSyscallError(call, err)
	}
	if err := syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return fail("setsockopt", err)
	}
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return fail("bind", err)
	}
	address, err := syscall.Getsockname(socket)
	if err != nil {
		return fail("getsockname", err)
	}
	own, ok := address.(*syscall.SockaddrInet4)
	if !ok {
		return fail("getsockname", fmt.Errorf("it is bound to %T", address))
	}
	return port{own.Port, release}, nil
}

//go:build unix

package secrets

import "syscall"

// NoCoreDumps keeps the kernel from writing this process's memory, and the
// values in it, to a disk when it crashes.
func NoCoreDumps() error {
	return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}

//go:build unix

package secrets

import (
	"syscall"
	"testing"
)

func TestNoCoreDumps(t *testing.T) {
	var before, after syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &before); err != nil {
		t.Fatal(err)
	}
	if before.Max == 0 {
		t.Skip("this process may write no core anyway")
	}
	if err := NoCoreDumps(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &after); err != nil || after.Cur != 0 || after.Max != 0 {
		t.Errorf("the limit is %+v, %v", after, err)
	}
}

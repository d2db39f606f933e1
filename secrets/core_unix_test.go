//go:build unix

package secrets

import (
	"syscall"
	"testing"
)

func TestNoCoreDumps(t *testing.T) {
	if err := NoCoreDumps(); err != nil {
		t.Fatal(err)
	}
	var after syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &after); err != nil || after.Cur != 0 || after.Max != 0 {
		t.Errorf("the limit is %+v, %v", after, err)
	}
}

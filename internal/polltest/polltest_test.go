package polltest_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"skep/internal/polltest"
)

// fatal is a test that notes how it ends.
type fatal struct {
	testing.TB
	said string
}

func (f *fatal) Helper() {}

func (f *fatal) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, calls := time.Now(), 0
		polltest.Until(t, func() error {
			if calls++; time.Since(start) < 30*time.Second {
				return errors.New("not yet")
			}
			return nil
		})
		if calls < 2 {
			t.Errorf("%d calls", calls)
		}

		ended, test := make(chan struct{}), &fatal{TB: t}
		go func() {
			defer close(ended)
			polltest.Until(test, func() error { return fmt.Errorf("call %v later", time.Since(start)) })
		}()
		<-ended
		if took := time.Since(start); took < 3*time.Minute || !strings.HasPrefix(test.said, "after 3m0s: call ") {
			t.Errorf("after %v it said %q", took, test.said)
		}
	})
}

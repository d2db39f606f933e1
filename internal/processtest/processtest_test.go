package processtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"skep/internal/polltest"
)

// asParent makes this binary start a process, print its id and wait for it.
const asParent = "SKEP_PROCESSTEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(asParent) == "" {
		os.Exit(m.Run())
	}
	p, err := Start(exec.Command("sleep", "600"), syscall.SIGKILL)
	if err != nil {
		panic(err)
	}
	fmt.Println(p.Pid)
	_ = p.Wait()
}

func TestEndsWithItsParent(t *testing.T) {
	t.Parallel()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), asParent+"=1")
	said, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Start(parent, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Fscanln(said, &child); err != nil {
		t.Fatal(err)
	}
	if err := p.End(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, func() error {
		if !gone(child) {
			return fmt.Errorf("process %d is left", child)
		}
		return nil
	})
}

// gone tells whether a process has ended. Where nobody collects orphans it
// stays as a zombie.
func gone(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, os.ErrNotExist) {
		return true
	}
	var id int
	var name, state string
	_, err = fmt.Sscan(string(stat), &id, &name, &state)
	return err == nil && state == "Z"
}

// Threads end while the process runs, as in tests that change namespaces, and
// the processors are busy: a goroutine that was in a system call then goes on
// in another thread, and leaves its own to the others.
func TestOutlivesThreads(t *testing.T) {
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		busy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					thread := make(chan struct{})
					go func() {
						runtime.LockOSThread()
						close(thread)
					}()
					<-thread
				}
			}
		})
	}
	defer busy.Wait()
	defer close(stop)
	for range 20 {
		if err := Run(exec.Command("sleep", "0.01"), syscall.SIGKILL); err != nil {
			t.Fatalf("got %v, want it to end by itself", err)
		}
	}
}

func TestEnd(t *testing.T) {
	t.Parallel()
	p, err := Start(exec.Command("sleep", "600"), syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is gone
		if err := p.End(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		var ended *exec.ExitError
		if err := p.Wait(); !errors.As(err, &ended) || ended.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
			t.Errorf("got %v, want that it was terminated", err)
		}
	}
	select {
	case <-p.Ended():
	default:
		t.Error("it has not ended")
	}
}

func TestDoesNotStart(t *testing.T) {
	t.Parallel()
	if err := Run(exec.Command("/nonexistent"), syscall.SIGKILL); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := Run(exec.Command("false"), syscall.SIGKILL); err == nil || err.Error() != "exit status 1" {
		t.Errorf("got %v", err)
	}
}

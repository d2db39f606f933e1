package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// stubborn stands in for a command that does not end when it is asked to.
func stubborn() {
	ctx, stop := interruptible(context.Background())
	defer stop()
	fmt.Println("runs")
	<-ctx.Done()
	fmt.Println("was asked")
	<-context.Background().Done()
}

// The first interrupt asks a command to end, another one ends it.
func TestSecondInterrupt(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Args = []string{"stubborn"} // TestMain goes by this name
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, want := range []string{"runs", "was asked"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("it said %q, not %q", lines.Text(), want)
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	again := time.NewTicker(50 * time.Millisecond) // the second may come while the first is taken
	defer again.Stop()
	for {
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if ctx.Err() != nil || !errors.As(err, &exit) || exit.ExitCode() != -1 {
				t.Errorf("it ended with %v", err)
			}
			return
		case <-again.C:
			_ = cmd.Process.Signal(os.Interrupt) // it may be gone
		}
	}
}

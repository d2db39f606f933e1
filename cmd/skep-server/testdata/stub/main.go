// Command stub stands for skep in jobs: it finds nothing wrong, plans a change
// and deploys it. A folder's file hold names the command that waits there until
// SIGUSR1 lets it go on, so that a test decides when. As a task, "stub event", it
// says which delivery it got, and leaves the body as an artefact.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if slices.Equal(args, []string{"event"}) {
		return event()
	}
	released := make(chan os.Signal, 1)
	signal.Notify(released, syscall.SIGUSR1)
	if len(args) < 3 || args[0] != "-C" {
		fmt.Fprintf(os.Stderr, "stub -C folder command, not %q\n", args)
		return 2
	}
	folder, verb := args[1], args[2]
	if hold, err := os.ReadFile(filepath.Join(folder, "hold")); err == nil && strings.TrimSpace(string(hold)) == verb {
		<-released
	}
	switch verb {
	case "check":
		fmt.Println(`{"errors":0,"warnings":0,"problems":[]}`)
	case "plan":
		fmt.Printf("**%s**: 1 to update\n", folder)
		return 4
	case "deploy":
		fmt.Println("deployed", folder)
	default:
		return 2
	}
	return 0
}

func event() int {
	about, err := os.ReadFile("/run/event/delivery.json")
	if err == nil {
		fmt.Printf("got %s\n", about)
	}
	body, problem := os.ReadFile("/run/event/body")
	if err := errors.Join(err, problem, os.WriteFile("artefacts/body", body, 0o600)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"skep/services/worker/postscript"
)

var errLate = errors.New("the command's time is over")

// asked is what the worker wants besides the command.
type asked struct {
	token     postscript.Token // empty: nothing
	artefacts bool
	answer    bool
	deadline  time.Duration // 0: none
}

func ask(lookup func(string) (string, bool)) (asked, error) {
	artefacts, _ := lookup(postscript.ArtefactsVariable)
	answer, _ := lookup(postscript.AnswerVariable)
	a := asked{artefacts: artefacts == "1", answer: answer == "1"}
	if text, _ := lookup(postscript.TokenVariable); text != "" {
		var err error
		if a.token, err = postscript.ParseToken(text); err != nil {
			return asked{}, fmt.Errorf("%s: %w", postscript.TokenVariable, err)
		}
	}
	if text, ok := lookup(postscript.DeadlineVariable); ok {
		var err error
		if a.deadline, err = time.ParseDuration(text); err != nil || a.deadline <= 0 {
			return asked{}, fmt.Errorf("%s is %q, which is no time that a command may take", postscript.DeadlineVariable, text)
		}
	}
	return a, nil
}

// within ends the command in time.
func (a asked) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if a.deadline == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, a.deadline, errLate)
}

func (a asked) handBack(to io.Writer, work string, n postscript.Note) error {
	if a.token == "" {
		return nil
	}
	if !a.artefacts {
		work = ""
	}
	return postscript.Write(to, a.token, work, n)
}

// own are the variables of this process.
var own = []string{postscript.TokenVariable, postscript.ArtefactsVariable, postscript.AnswerVariable, postscript.DeadlineVariable}

// environment is the command's: without what is meant for this process.
func environment(all []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(own, name)
	})
}

// The kernel's counts of processes that it killed for want of memory in a
// container, of control groups in version 2 and 1.
var memoryEvents = []string{"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"}

func killedForMemory() bool {
	return slices.ContainsFunc(memoryEvents, func(name string) bool {
		content, err := os.ReadFile(name)
		return err == nil && oomKills(content) > 0
	})
}

func oomKills(events []byte) int {
	for line := range bytes.Lines(events) {
		if count, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			n, err := strconv.Atoi(string(bytes.TrimSpace(count)))
			if err == nil {
				return n
			}
		}
	}
	return 0
}

package deploy

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/moby/moby/api/types/swarm"
)

// Failure is a service that did not come up.
type Failure struct {
	Service string `json:"service"`
	Reason  string `json:"reason"`
	Task    string `json:"task,omitempty"`
	Node    string `json:"node,omitempty"`
	State   string `json:"state,omitempty"`
	// ExitCode is nil when no process ran.
	ExitCode *int     `json:"exitCode,omitempty"`
	Message  string   `json:"message,omitempty"` // of the engine
	Log      []string `json:"log,omitempty"`
	Cause    string   `json:"cause,omitempty"` // what is likely
}

func (f *Failure) Error() string { return fmt.Sprintf("service %s: %s", f.Service, f.Reason) }

// Detail says the rest, a line each.
func (f *Failure) Detail() []string {
	var out []string
	if f.Task != "" {
		line := "task " + f.Task
		if f.Node != "" {
			line += " on " + f.Node
		}
		line += ": " + f.State
		if f.ExitCode != nil {
			line += fmt.Sprintf(", exit code %d", *f.ExitCode)
		}
		if f.Message != "" {
			line += ": " + f.Message
		}
		out = append(out, line)
	}
	if f.Cause != "" {
		out = append(out, "likely cause: "+f.Cause)
	}
	for _, line := range f.Log {
		out = append(out, "| "+line)
	}
	return out
}

const (
	logLines    = 10
	logPatience = 5 * time.Second
)

// diagnose makes a failure of what was seen last, with the end of the task's log.
func (w *watch) diagnose(ctx context.Context, service string, p Progress, reason string) *Failure {
	f := &Failure{Service: service, Reason: reason}
	t := p.task
	if t == nil {
		f.Cause = likelyCause(p.Detail, nil, false)
		return f
	}
	f.Task, f.Node, f.State = taskName(service, *t), w.nodes[t.NodeID], string(t.Status.State)
	f.Message = t.Status.Err
	if c := t.Status.ContainerStatus; c != nil && c.ContainerID != "" {
		if ended(t.Status.State) {
			f.ExitCode = &c.ExitCode
		}
		f.Log = w.lastLines(ctx, *t)
	}
	checked := t.Spec.ContainerSpec != nil && t.Spec.ContainerSpec.Healthcheck != nil
	if f.Cause = likelyCause(t.Status.Err, f.ExitCode, checked); f.Cause == "" {
		f.Cause = slowCause(t.Status.State, checked)
	}
	return f
}

// slowCause is what a task without an error is held up by.
func slowCause(s swarm.TaskState, checked bool) string {
	switch {
	case s == swarm.TaskStatePreparing:
		return "the node is still at its image, or at its volumes: --timeout gives it longer"
	case s == swarm.TaskStateStarting && checked:
		return "its health check has not passed yet: run the check's command in the container, or give it longer with --timeout"
	}
	return ""
}

func taskName(service string, t swarm.Task) string {
	if t.Slot > 0 {
		return fmt.Sprintf("%s.%d.%s", service, t.Slot, t.ID)
	}
	return fmt.Sprintf("%s.%s", service, t.ID)
}

// lastLines are the end of a task's log; a node that is away has none to give.
func (w *watch) lastLines(ctx context.Context, task swarm.Task) []string {
	ctx, cancel := context.WithTimeout(ctx, logPatience)
	defer cancel()
	var out bytes.Buffer
	if err := w.engine.TaskLog(ctx, task, logLines, &out); err != nil && out.Len() == 0 {
		return nil
	}
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.TrimRight(line, "\r\n"))
	}
	return lines[max(0, len(lines)-logLines):]
}

// causes are the engine's words that mean something a person can act on.
var causes = []struct{ text, cause string }{
	{"No such image", noImage},
	{"failed to resolve reference", noImage},
	{"pull access denied", noImage},
	{"unhealthy", "the health check fails: run its command in the container, or give the service a longer start_period"},
	{"no suitable node", "no node meets the constraints and has the resources that are reserved"},
	{"executable file not found", "the image has no such program: check entrypoint and command"},
	{"no such file or directory", "a file that the task needs is not there: a bind mount's path, or the program of the entrypoint"},
	{"bind source path does not exist", "the node lacks the folder that is mounted: create it, or pin the service to the node that has it"},
	{"port is already allocated", "another program on the node has the port"},
	{"address already in use", "another program has the port"},
	{"host-mode port already in use", "another task has the port on every node that fits"},
	// Of a secret that its driver refuses the Swarm says that it is not found.
	{"secret", "a secret cannot be had: `skep secrets sync` creates what is missing; with a driver, its log on the leading manager says why"},
	{"config", "a config cannot be had; deploy again"},
	{"network", "a network cannot be set up on the node: `skep doctor` looks for free subnets"},
	{"OOM", "the kernel ended it for its memory: raise the limit"},
}

const noImage = "the node has no such image and could not pull it: check the name and the tag; for a private registry log in with docker, and deploy with --with-registry-auth"

func likelyCause(message string, exit *int, checked bool) string {
	for _, c := range causes {
		if strings.Contains(message, c.text) {
			return c.cause
		}
	}
	if exit == nil {
		return ""
	}
	switch *exit {
	case 0:
		if checked {
			return "the program ended, by itself or because its health check fails: run the check's command in the container"
		}
		return "the program ended by itself; a service must keep running, what should end is an x-job"
	case 126:
		return "the program may not be executed: check its permissions and the user"
	case 127:
		return "the image has no such program: check entrypoint and command"
	case 137:
		return "it was killed: by its memory limit, or because its health check failed"
	case 139:
		return "it crashed with a segmentation fault"
	}
	return "the program failed; its log says why"
}

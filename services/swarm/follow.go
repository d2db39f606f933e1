package swarm

import (
	"context"
	"io"
	"strconv"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"
)

// Changes calls changed whenever something of the Swarm or one of the
// engine's containers changes, until ctx ends. The API has no events of tasks
// on other nodes: whoever waits for those must look now and then as well.
func (c *Client) Changes(ctx context.Context, changed func()) error {
	r := c.api.Events(ctx, client.EventsListOptions{Filters: make(client.Filters).
		Add("type", string(events.ServiceEventType), string(events.NodeEventType), string(events.ContainerEventType))})
	for {
		select {
		case <-r.Messages:
			changed()
		case err := <-r.Err:
			if ctx.Err() != nil {
				return nil
			}
			return classify(err)
		}
	}
}

// LogOptions say which lines of a log are wanted.
type LogOptions struct {
	Tail       int // 0: all
	Since      string
	Follow     bool
	Timestamps bool
}

// TaskLog copies the last lines that a task wrote, both streams in order, to w.
func (c *Client) TaskLog(ctx context.Context, task swarm.Task, lines int, w io.Writer) error {
	r, err := c.api.TaskLogs(ctx, task.ID, client.TaskLogsOptions{ShowStdout: true, ShowStderr: true, Tail: strconv.Itoa(lines)})
	if err != nil {
		return classify(err)
	}
	return copyLog(ctx, r, task.Spec, w)
}

// ServiceLogs copies what the tasks of a service wrote to w.
func (c *Client) ServiceLogs(ctx context.Context, service swarm.Service, o LogOptions, w io.Writer) error {
	r, err := c.api.ServiceLogs(ctx, service.ID, client.ServiceLogsOptions{
		ShowStdout: true, ShowStderr: true, Tail: o.tail(), Since: o.Since, Follow: o.Follow, Timestamps: o.Timestamps,
	})
	if err != nil {
		return classify(err)
	}
	return copyLog(ctx, r, service.Spec.TaskTemplate, w)
}

func (o LogOptions) tail() string {
	if o.Tail == 0 {
		return "all"
	}
	return strconv.Itoa(o.Tail)
}

// copyLog takes the frames of both streams apart. What has a terminal has one
// stream, which comes as it is.
func copyLog(ctx context.Context, r io.ReadCloser, of swarm.TaskSpec, w io.Writer) error {
	defer r.Close()
	var err error
	if of.ContainerSpec != nil && of.ContainerSpec.TTY {
		_, err = io.Copy(w, r)
	} else {
		_, err = stdcopy.StdCopy(w, w, r)
	}
	if ctx.Err() != nil {
		return nil
	}
	return classify(err)
}

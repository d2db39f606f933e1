package swarm

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// classify gives an error the kind that errdefs.Is... asks for, where the
// engine's status code alone does not: Swarm answers much with 500 or 503 and a
// sentence.
func classify(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	var network *net.OpError
	switch {
	case strings.Contains(text, "update out of sequence"):
		return fmt.Errorf("%w: %w", errdefs.ErrAborted, err)
	case strings.Contains(text, "name conflicts with an existing object"),
		strings.Contains(text, "AlreadyExists"),
		strings.Contains(text, "network with name") && strings.Contains(text, "already exists"):
		return fmt.Errorf("%w: %w", errdefs.ErrAlreadyExists, err)
	case strings.HasPrefix(text, "Error response from daemon: network ") && strings.HasSuffix(text, " not found"):
		return fmt.Errorf("%w: %w", errdefs.ErrNotFound, err)
	case strings.Contains(text, "in use"): // by a service, by a task
		return fmt.Errorf("%w: %w", errdefs.ErrFailedPrecondition, err)
	case strings.Contains(text, "does not have a leader"),
		strings.Contains(text, "raft: failed to process the request"),
		strings.Contains(text, "no elected primary"),
		strings.Contains(text, "Unavailable"),
		strings.Contains(text, "code = DeadlineExceeded"),
		strings.Contains(text, "context deadline exceeded") && errdefs.IsInternal(err),
		client.IsErrConnectionFailed(err),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.As(err, &network):
		return fmt.Errorf("%w: %w", errdefs.ErrUnavailable, err)
	}
	return err
}

package swarm

import (
	"errors"
	"io"
	"net"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// kinded is an error of the engine with the kind that errdefs.Is... asks for.
// The kind is for the program: people read the engine's own words.
type kinded struct {
	error
	kind error
}

func (k *kinded) Unwrap() []error { return []error{k.kind, k.error} }

// unconnected is an engine that could not be reached. Who was never answered may
// have the wrong address.
type unconnected struct{ kinded }

// ConnectionFailed is what other parts know it by.
func (*unconnected) ConnectionFailed() bool { return true }

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
	case client.IsErrConnectionFailed(err):
		return &unconnected{kinded{err, errdefs.ErrUnavailable}}
	case strings.Contains(text, "update out of sequence"):
		return &kinded{err, errdefs.ErrAborted}
	case strings.Contains(text, "name conflicts with an existing object"),
		strings.Contains(text, "AlreadyExists"),
		strings.Contains(text, "network with name") && strings.Contains(text, "already exists"):
		return &kinded{err, errdefs.ErrAlreadyExists}
	case strings.HasPrefix(text, "Error response from daemon: network ") && strings.HasSuffix(text, " not found"):
		return &kinded{err, errdefs.ErrNotFound}
	case strings.Contains(text, "in use"): // by a service, by a task
		return &kinded{err, errdefs.ErrFailedPrecondition}
	case strings.Contains(text, "does not have a leader"),
		strings.Contains(text, "raft: failed to process the request"),
		strings.Contains(text, "no elected primary"),
		strings.Contains(text, "Unavailable"),
		strings.Contains(text, "code = DeadlineExceeded"),
		strings.Contains(text, "context deadline exceeded") && errdefs.IsInternal(err),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.As(err, &network):
		return &kinded{err, errdefs.ErrUnavailable}
	}
	return err
}

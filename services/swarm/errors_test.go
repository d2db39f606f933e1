package swarm

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/containerd/errdefs"
)

// The sentences are those of engines 20.10 to 29.
func TestClassify(t *testing.T) {
	for text, is := range map[string]func(error) bool{
		"Error response from daemon: rpc error: code = Unknown desc = update out of sequence":                                                            errdefs.IsAborted,
		"Error response from daemon: rpc error: code = AlreadyExists desc = name conflicts with an existing object: service app_web already exists":      errdefs.IsAlreadyExists,
		"Error response from daemon: network with name app already exists":                                                                               errdefs.IsAlreadyExists,
		"Error response from daemon: rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are online.": errdefs.IsUnavailable,
		"Error response from daemon: rpc error: code = DeadlineExceeded desc = context deadline exceeded":                                                errdefs.IsUnavailable,
		"Error response from daemon: rpc error: code = InvalidArgument desc = config 'a' is in use by the following service: app_web":                    errdefs.IsFailedPrecondition,
		"Error response from daemon: network m76w0ans9kd5dy38rxeeugap9 not found":                                                                        errdefs.IsNotFound,
	} {
		if err := errors.New(text); !is(classify(err)) || !errors.Is(classify(err), err) || classify(err).Error() != text {
			t.Errorf("%s: got %v", text, classify(err))
		}
	}
	for _, err := range []error{io.EOF, io.ErrUnexpectedEOF, &net.OpError{Op: "dial", Err: errors.New("refused")}} {
		if !errdefs.IsUnavailable(classify(err)) {
			t.Errorf("%v passes as final", err)
		}
	}
	if err := errors.New("something else"); classify(err) != err {
		t.Error("it changed an error that it does not know")
	}
	if classify(nil) != nil {
		t.Error("it made an error of none")
	}
}

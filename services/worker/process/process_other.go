//go:build !linux

package process

import (
	"context"
	"fmt"
	"runtime"

	"skep/services/worker"
)

// Launch refuses: there is nothing like Linux's namespaces here.
func (l Launcher) Launch(context.Context, worker.Job) (worker.Exit, error) {
	return worker.Exit{}, fmt.Errorf("%w: jobs run as processes on Linux alone, not on %s: run the worker in a Linux machine or container",
		worker.ErrRefused, runtime.GOOS)
}

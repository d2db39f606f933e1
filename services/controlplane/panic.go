package controlplane

import (
	"fmt"
	"runtime"
	"strings"
)

// Panic is a fault of the program's own, as an error. It has the kind of what was
// panicked with, not its text: that may quote anything, a secret too.
type Panic struct {
	Kind  string
	Stack string // functions and places, the innermost first, without arguments
}

// maxFrames bounds a stack.
const maxFrames = 64

// Recovered is the error of what recover returned. It is made where that was
// called, while the stack still has the place of the panic.
func Recovered(value any) *Panic {
	p := &Panic{Kind: fmt.Sprintf("%T", value)}
	if e, ok := value.(runtime.Error); ok { // of the language: types, lengths and indices
		p.Kind = e.Error()
	}
	calls := make([]uintptr, maxFrames)
	frames := runtime.CallersFrames(calls[:runtime.Callers(2, calls)])
	var stack strings.Builder
	for {
		f, more := frames.Next()
		fmt.Fprintf(&stack, "%s %s:%d\n", f.Function, f.File, f.Line)
		if !more {
			break
		}
	}
	p.Stack = stack.String()
	return p
}

// Guard makes an error of a panic of f's.
func Guard(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = Recovered(value)
		}
	}()
	return f()
}

func (p *Panic) Error() string {
	return "a fault of Skep's own: it panicked (" + p.Kind + "), and the log of its process says where"
}

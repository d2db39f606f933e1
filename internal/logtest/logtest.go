// Package logtest keeps what is logged, so that a test can read it while it is
// still being written.
package logtest

import (
	"bytes"
	"sync"
)

// Buffer is a bytes.Buffer for several goroutines: the log of a server, the
// output of a process. The zero value is empty and ready.
type Buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String is all that was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

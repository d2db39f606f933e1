package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"sync"
)

// Skep starts a built skep-dockerproxy with variables NAME=value.
func Skep(ctx context.Context, binary, socket string, env ...string) (*Process, error) {
	cmd := exec.CommandContext(ctx, binary)
	cmd.Env = append([]string{"LISTEN=127.0.0.1:0", "SOCKET_PATH=" + socket}, env...)
	log := &log{}
	cmd.Stderr = log
	return start(cmd, func(*Process) (string, bool) { return log.address() })
}

// log keeps what a process writes before it listens.
type log struct {
	mu   sync.Mutex
	head bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head.Len() < 64<<10 {
		l.head.Write(p)
	}
	return len(p), nil
}

func (l *log) address() (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := bufio.NewScanner(bytes.NewReader(l.head.Bytes()))
	for lines.Scan() {
		var entry struct{ Msg, Address string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "listening" {
			return entry.Address, true
		}
	}
	return "", false
}

// Package child runs processes that belong to this one: they get their
// configuration by standard input, which holds secrets, say in a line of JSON on
// standard output that they are ready, are started again when they end, and end
// when this process does, however it ends.
package child

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Process is one to keep running.
type Process struct {
	Name   string
	Path   string   // of the binary; empty: this one
	Args   []string // after its name
	Env    []string // all of it
	Config any      // JSON on standard input
	// Ready is called with the line that says so, after every start.
	Ready func(line []byte) error
	// Started is called after every start, if it is set.
	Started func(pid int)
	Stderr  io.Writer
	Grace   time.Duration // between the request to end and the end
	Log     *slog.Logger
}

// steady is how long a process runs before its next end counts as its first.
const steady = time.Minute

// Run keeps the process until ctx ends, and returns when it is gone. An error is
// one that another start would not mend.
func (p *Process) Run(ctx context.Context) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 200*time.Millisecond, 30*time.Second
	for {
		began := time.Now()
		err := p.once(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission), errors.Is(err, syscall.ENOEXEC):
			return err
		case time.Since(began) > steady:
			pause.Reset()
		}
		wait := pause.NextBackOff()
		p.Log.ErrorContext(ctx, "a child process ended and is started again", "child", p.Name, "error", err, "in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// once runs the process from its start to its end.
func (p *Process) once(ctx context.Context) error {
	config, err := json.Marshal(p.Config)
	if err != nil {
		return fmt.Errorf("configure %s: %w", p.Name, err)
	}
	path := p.Path
	if path == "" {
		if path, err = os.Executable(); err != nil {
			return fmt.Errorf("start %s: %w", p.Name, err)
		}
	}
	cmd := exec.CommandContext(ctx, path, p.Args...)
	cmd.Env, cmd.Stderr = p.Env, p.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = p.Grace
	stdin, err := cmd.StdinPipe() // open as long as this process lives: its end is the child's
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	if p.Started != nil {
		p.Started(cmd.Process.Pid)
	}
	_, err = stdin.Write(append(config, '\n'))
	if err == nil {
		err = p.listen(stdout)
	}
	if err != nil {
		_ = cmd.Process.Kill() // gone already, if it fails
	}
	return errors.Join(err, cmd.Wait())
}

// maxLine bounds what a child says.
const maxLine = 1 << 20

// listen takes the line that says the process is ready, and waits for the end.
func (p *Process) listen(stdout io.Reader) error {
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, maxLine)
	for said := false; lines.Scan(); said = true {
		if said || p.Ready == nil {
			continue
		}
		if err := p.Ready(lines.Bytes()); err != nil {
			return fmt.Errorf("%s is ready, but: %w", p.Name, err)
		}
	}
	return lines.Err()
}

// ErrOrphan ends a child whose parent is gone.
var ErrOrphan = errors.New("the parent process is gone")

// Config reads the configuration that the parent wrote, in the child. The
// context that it returns ends with the parent.
func Config(ctx context.Context, stdin io.Reader, into any) (context.Context, error) {
	in := bufio.NewReaderSize(stdin, 64<<10)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("read the configuration from standard input: %w", err)
	}
	if err := json.Unmarshal(line, into); err != nil {
		return nil, errors.New("the configuration on standard input is no JSON of the expected form") // what is wrong with it may quote a secret
	}
	clear(line)
	ctx, cancel := context.WithCancelCause(ctx)
	go func() { // ends with the parent, or with this process
		_, _ = io.Copy(io.Discard, in)
		cancel(ErrOrphan)
	}()
	return ctx, nil
}

// Beside finds another binary of this release: in this one's folder, or on the
// PATH.
func Beside(name string) (string, error) {
	if own, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(own), name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("the %s binary is neither beside this one nor on the PATH: put it there", name)
	}
	return filepath.Abs(path)
}

// Package processtest runs the servers of tests as processes that never outlive
// the test's own, not even when that is killed.
package processtest

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// Process is a command that was started.
type Process struct {
	Pid   int
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // what waiting for it returned, once ended is closed
}

// Start starts cmd in a process group of its own. When this process dies, it
// gets the signal last.
func Start(cmd *exec.Cmd, last syscall.Signal) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pdeathsig = true, last
	p := &Process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends the signal when the thread that started the process
		// ends (prctl(2), PR_SET_PDEATHSIG), and the runtime ends threads. This
		// one does nothing else until the process is gone.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	p.Pid = cmd.Process.Pid
	return p, nil
}

// Run starts cmd as Start does and waits until it ends. The error is that of
// [exec.Cmd.Run].
func Run(cmd *exec.Cmd, last syscall.Signal) error {
	p, err := Start(cmd, last)
	if err != nil {
		return err
	}
	return p.Wait()
}

// Ended is closed once the process is gone and its output is written.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Wait until the process is gone. The error is that of [exec.Cmd.Wait], however
// often it is asked for.
func (p *Process) Wait() error {
	<-p.ended
	return p.err
}

// Signal sends a signal to the process. That it is gone already is no error.
func (p *Process) Signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// End sends a signal that ends the process and waits until it is gone.
func (p *Process) End(s syscall.Signal) error {
	if err := p.Signal(s); err != nil {
		return err
	}
	<-p.ended
	return nil
}

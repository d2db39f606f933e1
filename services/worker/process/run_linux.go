package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"skep/services/controlplane"
	"skep/services/worker"
	"skep/services/worker/output"
)

// What a job's processes may use. Memory is that of one process; Linux counts
// processes, and their threads, for a user.
const (
	defaultMemory = 4 << 30
	defaultPIDs   = 1024
	maxFile       = 1 << 30
	maxOpen       = 1024
	maxCPU        = 1800 // seconds
)

var errDeadline = errors.New("the job's deadline is over")

// rlimits are those of the job's first process, before its first instruction.
// Root may set those of another user's process with CAP_SYS_RESOURCE alone,
// which containers lack; that user may as well. So this thread becomes the
// job's user as far as its real ids go: the thread ends with the job.
func rlimits(pid int, owner bool, l controlplane.Limits) error {
	if owner {
		const same = ^uintptr(0)
		_, _, gid := unix.RawSyscall(unix.SYS_SETRESGID, nobody, same, same)
		_, _, uid := unix.RawSyscall(unix.SYS_SETRESUID, nobody, same, same)
		if gid != 0 || uid != 0 {
			return fmt.Errorf("become the job's user: %w", errors.Join(gid, uid))
		}
	}
	memory, pids := uint64(defaultMemory), uint64(defaultPIDs)
	if l.Memory > 0 {
		memory = uint64(l.Memory)
	}
	if l.PIDs > 0 {
		pids = uint64(l.PIDs)
	}
	var err error
	for resource, most := range map[int]uint64{
		unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: maxOpen, unix.RLIMIT_FSIZE: maxFile, unix.RLIMIT_CPU: maxCPU,
		unix.RLIMIT_DATA: memory, unix.RLIMIT_NPROC: pids,
	} {
		err = errors.Join(err, unix.Prlimit(pid, resource, &unix.Rlimit{Cur: most, Max: most}, nil))
	}
	return err
}

// run starts the job and waits for its end, on a thread of its own.
func run(ctx context.Context, p *place, j worker.Job, grace time.Duration) (worker.Exit, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return worker.Exit{}, fmt.Errorf("give up new privileges: %w", err)
	}
	cmd := exec.CommandContext(ctx, p.exec, j.Command[1:]...)
	cmd.Dir, cmd.Env = "/work", p.env
	cmd.WaitDelay = grace
	var asked atomic.Bool // to end
	cmd.Cancel = func() error {
		asked.Store(true)
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		} else if err != nil {
			return err
		}
		return nil
	}
	cmd.SysProcAttr = p.attributes(j.Swarm)
	answer := &output.Buffer{}
	if j.Answer {
		answer.Most = worker.MaxAnswer
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return worker.Exit{}, err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return worker.Exit{}, err
	}
	if err := start(cmd, p.owner, j.Limits); err != nil {
		return worker.Exit{}, err
	}
	var reads sync.WaitGroup
	var broken [2]error
	reads.Go(func() {
		broken[0] = p.read(io.TeeReader(stdout, answer), func(line string) { j.Output("stdout", line) })
	})
	reads.Go(func() { broken[1] = p.read(stderr, func(line string) { j.Output("stderr", line) }) })
	reads.Wait()
	err = cmd.Wait()
	if e := errors.Join(broken[:]...); e != nil {
		return worker.Exit{}, e
	}

	exit := worker.Exit{Code: cmd.ProcessState.ExitCode(), Answer: answer.Bytes()}
	var ended *exec.ExitError
	switch {
	case asked.Load() && errors.Is(context.Cause(ctx), errDeadline):
		exit.Killed = fmt.Sprintf("it took longer than %v", j.Deadline)
	case asked.Load():
		return worker.Exit{}, context.Cause(ctx)
	case exit.Code < 0:
		exit.Killed = cmd.ProcessState.String()
	case err != nil && !errors.As(err, &ended):
		return worker.Exit{}, err
	}
	return exit, nil
}

// attributes put the process into its place. It has no capability there: as
// root it becomes nobody, else it is nobody in a user namespace of its own,
// which the kernel strips at exec. With none it cannot leave its root; as its
// root is not that of a mount namespace it cannot make user namespaces either.
func (p *place) attributes(network bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Chroot: p.root, Setsid: true, Pdeathsig: syscall.SIGKILL,
		Ptrace:     true, // it stops before its first instruction, for its limits
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	if !network {
		a.Cloneflags |= syscall.CLONE_NEWNET
	}
	if p.owner {
		a.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		return a
	}
	a.Cloneflags |= syscall.CLONE_NEWUSER
	a.UidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Getuid(), Size: 1}}
	a.GidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: os.Getgid(), Size: 1}}
	return a
}

func start(cmd *exec.Cmd, owner bool, l controlplane.Limits) error {
	if err := cmd.Start(); errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("start a job: %w: does this machine let ordinary users make namespaces (user.max_user_namespaces, "+
			"kernel.apparmor_restrict_unprivileged_userns)? If not, run the worker as root", err)
	} else if err != nil {
		return fmt.Errorf("start a job: %w", err)
	}
	err := release(cmd.Process.Pid, owner, l)
	if err != nil {
		return errors.Join(fmt.Errorf("limit a job: %w", err), cmd.Process.Kill(), reap(cmd))
	}
	return nil
}

// release waits for the stop before the first instruction, sets the limits, and
// lets the process go.
func release(pid int, owner bool, l controlplane.Limits) error {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, unix.WALL, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		break
	}
	if !status.Stopped() {
		return fmt.Errorf("its process ended before it began: %v", syscall.WaitStatus(status))
	}
	return errors.Join(rlimits(pid, owner, l), unix.PtraceDetach(pid))
}

func reap(cmd *exec.Cmd) error {
	var ended *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &ended) {
		return err
	}
	return nil
}

// read hands on lines with secrets masked. One that makes this process panic is
// an error, and the job can write on.
func (p *place) read(r io.Reader, line func(string)) error {
	err := controlplane.Guard(func() error {
		lines := output.Lines(line)
		masked := p.mask.Writer(lines)
		_, _ = io.Copy(masked, r) // an end is an end: the pipe's last writer is gone
		_ = masked.Close()        // nothing behind it fails
		_ = lines.Close()
		return nil
	})
	_, _ = io.Copy(io.Discard, r)
	return err
}

package swarmtest

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
)

// janitor is a process that removes what engines leave on the machine. It
// starts when it is told to, or when this process is gone, however it ended.
type janitor struct {
	process *exec.Cmd
	alive   io.Closer
	left    strings.Builder
}

// sweep waits for the end of its input. The kernel takes down mounts and
// control groups some time after the processes.
const sweep = `cat
left() { ls -d "$1" "/sys/fs/cgroup$2" /sys/fs/cgroup/*"$2" 2>/dev/null; }
for i in $(seq 3000); do
	rm -rf --one-file-system "$1"
	find "/sys/fs/cgroup$2" /sys/fs/cgroup/*"$2" -depth -type d -exec rmdir {} +
	[ -z "$(left "$1" "$2")" ] && exit
	sleep 0.1
done 2>/dev/null
left "$1" "$2"
exit 1
`

func newJanitor(dir, cgroup string) (*janitor, error) {
	j := &janitor{process: exec.Command("sh", "-c", sweep, "sh", dir, cgroup)}
	j.process.Stdout = &j.left
	j.process.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a signal from the terminal is not for it
	var err error
	if j.alive, err = j.process.StdinPipe(); err != nil {
		return nil, err
	}
	return j, j.process.Start()
}

// clean has everything removed. Nothing may use it any more.
func (j *janitor) clean() error {
	if err := j.alive.Close(); err != nil {
		return err
	}
	if err := j.process.Wait(); err != nil {
		return fmt.Errorf("left behind: %w\n%s", err, &j.left)
	}
	return nil
}

package swarmtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"skep/internal/processtest"
)

// Node is one engine, on a machine of its own as far as it can tell. Its
// methods that change its state are not for concurrent use.
type Node struct {
	Name    string // its host name: node1, node2, ...
	Address string // on the network between the nodes

	lan      *lan
	dir      string // everything the engine writes
	cgroup   string // parent of all its containers
	machine  *processtest.Process
	commands io.WriteCloser // of the machine's first process

	down bool // the engine does not run
	cut  bool // the node is not on the network
}

// boot is the first process of a machine: it joins the network whose namespace
// is file 3, starts dockerd, and kills and starts it as it is told. Its end is
// the end of every process of the machine. A private /run holds the socket that
// containers mount.
const boot = `set -e
hostname "$3"
lan() { nsenter --net=/dev/fd/3 ip link "$@"; }
lan del "$3" 2>/dev/null || true
lan add "$3" type veth peer name eth0 netns 1
lan set "$3" master lan up
exec 3<&-
ip link set lo up
ip addr add "$4/24" dev eth0
ip link set eth0 up
mount -t tmpfs tmpfs /run
mkdir -p /etc/docker
mount -t tmpfs tmpfs /etc/docker
# dockerd gives up when containerd takes more than 15 seconds to start.
start() {
	for try in 1 2 3; do
		# A process number in a file of before may be somebody else's by now.
		rm -f "$1/pid" "$1/exec/containerd/containerd.pid"
		code=0
		dockerd --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" -H "unix://$1/docker.sock" \
			-H unix:///run/docker.sock --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "$2" || code=$?
		[ $code = 1 ] || return 0
	done
}
rm -rf "$1/exec" # elsewhere it lies in /run, and is gone after a boot
start "$1" "$2" &
while read -r command; do
	case $command in
	start) start "$1" "$2" & ;;
	kill)
		kill -KILL "$(cat "$1/pid")"
		wait
		;;
	esac
done
`

func newNode(l *lan, number int, dir, cgroup string) (*Node, error) {
	name := fmt.Sprintf("node%d", number)
	n := &Node{
		Name: name, Address: fmt.Sprintf("10.200.0.%d", number),
		lan: l, dir: filepath.Join(dir, name), cgroup: cgroup + "/" + name, down: true,
	}
	return n, os.Mkdir(n.dir, 0o755)
}

// Restart starts the engine after Kill or KillEngine, and waits until it
// answers.
func (n *Node) Restart() error {
	if n.machine == nil {
		if err := n.powerOn(); err != nil {
			return fmt.Errorf("start %s: %w", n.Name, err)
		}
		n.cut = false
	} else if err := n.command("start"); err != nil {
		return err
	}
	err := Poll(3*time.Minute, func() error {
		_, err := n.Docker("version")
		return err
	})
	if err != nil {
		return fmt.Errorf("%s is not ready: %w", n.Name, err)
	}
	n.down = false
	return nil
}

func (n *Node) powerOn() error {
	log, err := os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	machine := exec.Command("unshare", "--net", "--mount", "--propagation", "private", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc",
		"sh", "-c", boot, "sh", n.dir, n.cgroup, n.Name, n.Address)
	machine.Env = append(os.Environ(), "PATH="+enginePath())
	machine.Stdout, machine.Stderr = log, log
	machine.ExtraFiles = []*os.File{n.lan.namespace}
	commands, err := machine.StdinPipe()
	if err != nil {
		return err
	}
	n.machine, err = processtest.Start(machine, syscall.SIGKILL)
	n.commands = commands
	return err
}

func (n *Node) command(word string) error {
	if _, err := io.WriteString(n.commands, word+"\n"); err != nil {
		return fmt.Errorf("%s %s: %w", word, n.Name, err)
	}
	return nil
}

// Kill is a power cut: the engine, its containers and the node's network are
// gone at once. What is on disk stays.
func (n *Node) Kill() error {
	n.down = true
	if n.machine == nil {
		return nil
	}
	// The first process ends with its input, and only once all others are gone.
	n.commands.Close()
	select {
	case <-n.machine.Ended():
	case <-time.After(30 * time.Second):
		if err := n.machine.End(syscall.SIGKILL); err != nil {
			return fmt.Errorf("kill %s: %w", n.Name, err)
		}
	}
	n.machine = nil
	return nil
}

// KillEngine kills dockerd alone: its containers run on.
func (n *Node) KillEngine() error {
	n.down = true
	if err := n.command("kill"); err != nil {
		return err
	}
	return Poll(2*time.Minute, func() error {
		conn, err := net.Dial("unix", n.socket())
		if err != nil {
			return nil
		}
		conn.Close()
		return fmt.Errorf("the engine of %s is still there", n.Name)
	})
}

// Partition cuts the node off from the others. Its engine runs and answers.
func (n *Node) Partition() error {
	n.cut = true
	return n.lan.link("set", n.Name, "nomaster")
}

// Heal ends a partition.
func (n *Node) Heal() error {
	n.cut = false
	return n.lan.link("set", n.Name, "master", "lan")
}

func (n *Node) lastLog() string {
	content, err := os.ReadFile(filepath.Join(n.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-8000):])
}

func (n *Node) socket() string { return filepath.Join(n.dir, "docker.sock") }

// Host is the engine's address, as DOCKER_HOST takes it.
func (n *Node) Host() string { return "unix://" + n.socket() }

// Docker runs the docker command on this node and returns its standard
// output. An error holds what the command said.
func (n *Node) Docker(args ...string) (string, error) {
	return n.docker(context.Background(), nil, args...)
}

func (n *Node) docker(ctx context.Context, stdin []byte, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "docker", append([]string{"-H", n.Host()}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+filepath.Join(n.dir, "config"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: docker %s: %w: %s", n.Name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

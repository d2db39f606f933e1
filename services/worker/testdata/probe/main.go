//go:build linux

// Command probe is a job that looks around, for tests. Its arguments are
// commands with one argument each, done in order: cat=/etc/passwd exit=3.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	for _, arg := range os.Args[1:] {
		command, rest, _ := strings.Cut(arg, "=")
		f, ok := commands[command]
		if !ok {
			fmt.Fprintln(os.Stderr, "no command", command)
			os.Exit(100)
		}
		if err := f(rest); err != nil {
			fmt.Printf("%s: error: %v\n", command, err)
		}
	}
}

var commands map[string]func(string) error

func init() {
	commands = map[string]func(string) error{
		"say":      func(s string) error { _, err := fmt.Println(s); return err },
		"complain": func(s string) error { _, err := fmt.Fprintln(os.Stderr, s); return err },
		"pieces":   pieces,
		"flood":    flood,
		"cat":      cat,
		"ls":       ls,
		"stat":     stat,
		"env": func(string) error {
			e := os.Environ()
			slices.Sort(e)
			fmt.Println("env:", strings.Join(e, " "))
			return nil
		},
		"pwd":      func(string) error { d, err := os.Getwd(); fmt.Println("pwd:", d); return err },
		"dial":     dial,
		"ids":      ids,
		"signal":   func(pid string) error { n, _ := strconv.Atoi(pid); return syscall.Kill(n, 0) },
		"escape":   escape,
		"limits":   limits,
		"write":    write,
		"fill":     fill,
		"npm":      npm,
		"link":     func(s string) error { from, to, _ := strings.Cut(s, ","); return os.Symlink(to, from) },
		"rename":   func(s string) error { from, to, _ := strings.Cut(s, ","); return os.Rename(from, to) },
		"chmod":    func(path string) error { return os.Chmod(path, 0) },
		"docker":   docker,
		"allocate": allocate,
		"fork":     fork,
		"stubborn": stubborn,
		"undo":     undo,
		"child":    child,
		"hold":     hold,
		"wait":     func(string) error { return forever() },
		"exit":     func(code string) error { n, _ := strconv.Atoi(code); os.Exit(n); return nil },
		"die":      func(string) error { return syscall.Kill(os.Getpid(), syscall.SIGKILL) },
		"panic":    func(s string) error { panic(s) },
	}
}

// pieces writes the parts of a text one by one: a|b|c, with ~ for a new line.
func pieces(s string) error {
	for p := range strings.SplitSeq(strings.ReplaceAll(s, "~", "\n"), "|") {
		if _, err := os.Stdout.WriteString(p); err != nil {
			return err
		}
	}
	return nil
}

// flood writes a number of bytes without a new line, and then a text.
func flood(s string) error {
	count, last, _ := strings.Cut(s, ",")
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(bytes.Repeat([]byte("x"), n), last...))
	return err
}

func cat(path string) error {
	content, err := os.ReadFile(path)
	if err == nil {
		fmt.Printf("cat: %s: %q\n", path, content)
	}
	return err
}

func ls(dir string) error {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	fmt.Println("ls:", dir, strings.Join(names, " "))
	return err
}

func stat(path string) error {
	var s syscall.Stat_t
	if err := syscall.Stat(path, &s); err != nil {
		return err
	}
	fmt.Printf("stat: %s %o %d\n", path, s.Mode&0o7777, s.Uid)
	return nil
}

func dial(address string) error {
	network, address, _ := strings.Cut(address, ",")
	conn, err := net.DialTimeout(network, address, 5*time.Second)
	if err != nil {
		return err
	}
	fmt.Println("dial: connected")
	return conn.Close()
}

func ids(string) error {
	groups, err := os.Getgroups()
	fmt.Println("ids: pid", os.Getpid(), "parent", os.Getppid(), "uid", os.Getuid(), "gid", os.Getgid(), "groups", groups)
	status, e := os.ReadFile("/proc/self/status")
	if e == nil {
		for line := range strings.SplitSeq(string(status), "\n") {
			if strings.HasPrefix(line, "CapEff") || strings.HasPrefix(line, "CapBnd") || strings.HasPrefix(line, "NoNewPrivs") {
				fmt.Println(strings.Join(strings.Fields(line), " "))
			}
		}
	}
	return err
}

// escape tries what leads out of a root folder for whoever may.
func escape(string) error {
	try := func(what string, err error) {
		if err == nil {
			fmt.Println("escape:", what, "worked")
		}
	}
	try("setuid", syscall.Setuid(0))
	try("mknod", syscall.Mknod("/tmp/disk", syscall.S_IFBLK|0o600, 8<<8))
	try("mount", syscall.Mount("none", "/tmp", "tmpfs", 0, ""))
	try("unshare", unix.Unshare(unix.CLONE_NEWUSER))
	try("chroot", syscall.Chroot("/tmp"))
	for _, path := range []string{"../../../../../../etc/passwd", "/proc/1/root/etc/passwd", "/dev/sda"} {
		_, err := os.ReadFile(path)
		try(path, err)
	}
	fmt.Println("escape: tried")
	return nil
}

func limits(string) error {
	for _, l := range []struct {
		name     string
		resource int
	}{
		{"core", unix.RLIMIT_CORE}, {"files", unix.RLIMIT_NOFILE}, {"size", unix.RLIMIT_FSIZE}, {"cpu", unix.RLIMIT_CPU},
		{"data", unix.RLIMIT_DATA}, {"processes", unix.RLIMIT_NPROC},
	} {
		var r unix.Rlimit
		if err := unix.Prlimit(0, l.resource, nil, &r); err != nil {
			return err
		}
		more := unix.Rlimit{Cur: r.Max + 1, Max: r.Max + 1}
		fmt.Println("limits:", l.name, r.Max, "raised", unix.Prlimit(0, l.resource, &more, nil) == nil)
	}
	nnp, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	fmt.Println("limits: no new privileges", nnp)
	return err
}

func write(s string) error {
	path, content, _ := strings.Cut(s, ",")
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644))
}

// fill writes a file of so many bytes that cannot be compressed.
func fill(s string) error {
	path, count, _ := strings.Cut(s, ",")
	n, err := strconv.Atoi(count)
	content := make([]byte, n)
	for i, x := 0, uint32(1); i < n; i++ {
		x = x*1664525 + 1013904223
		content[i] = byte(x >> 24)
	}
	return errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644))
}

// npm asks the registry that npm would ask.
func npm(path string) error {
	c := http.Client{Timeout: 20 * time.Second}
	response, err := c.Get(os.Getenv("npm_config_registry") + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	fmt.Printf("npm: %s %.40q\n", response.Status, body)
	return err
}

// docker asks the engine whose socket DOCKER_HOST names.
func docker(path string) error {
	socket := strings.TrimPrefix(os.Getenv("DOCKER_HOST"), "unix://")
	c := http.Client{Transport: &http.Transport{Dial: func(string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
	response, err := c.Get("http://docker" + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	fmt.Printf("docker: %s %s\n", response.Status, body)
	return err
}

func allocate(mib string) error {
	n, err := strconv.Atoi(mib)
	if err != nil {
		return err
	}
	b := make([]byte, n<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	fmt.Println("allocate: done", len(b))
	return nil
}

// fork starts children that wait until it cannot.
func fork(most string) error {
	n, err := strconv.Atoi(most)
	for i := 0; i < n && err == nil; i++ {
		_, err = start("wait")
		if err != nil {
			fmt.Println("fork: stopped")
		}
	}
	return err
}

func start(args ...string) (*exec.Cmd, error) {
	in, out, err := os.Pipe() // there may be no /dev/null
	if err != nil {
		return nil, err
	}
	defer in.Close()
	defer out.Close()
	c := exec.Command(os.Args[0], args...)
	c.Stdin, c.Stdout, c.Stderr = in, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return c, c.Start()
}

// stubborn ignores requests to end, as does a child in a session of its own
// that holds a lock.
func stubborn(file string) error {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	_, err := start("hold=" + file)
	if err == nil {
		err = forever()
	}
	return err
}

// undo takes back in steps what it has begun when it is asked to end.
func undo(steps string) error {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	fmt.Println("begun")
	<-asked
	n, err := strconv.Atoi(steps)
	for i := range n {
		fmt.Fprintln(os.Stderr, "undo", i)
		time.Sleep(300 * time.Millisecond) // as what it waits for takes its time
	}
	fmt.Println("undone")
	return err
}

// child leaves a process behind that holds a lock, and goes on.
func child(file string) error {
	_, err := start("hold=" + file)
	if err != nil {
		return err
	}
	for { // until it has it
		if _, err := os.Stat(file); err == nil {
			return nil
		}
		syscall.Select(0, nil, nil, nil, &syscall.Timeval{Usec: 1000})
	}
}

func hold(file string) error {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	fd, err := syscall.Open(file, syscall.O_CREAT|syscall.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(fd, syscall.LOCK_EX); err != nil {
		return err
	}
	fmt.Println("hold: locked")
	return forever()
}

// forever is no select{}, which the runtime takes for a deadlock.
func forever() error {
	for {
		_ = syscall.Pause() // ends with each signal
	}
}

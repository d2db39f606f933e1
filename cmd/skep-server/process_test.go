package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// process is one of the plane's.
type process struct {
	pid  int
	args []string
}

// processes are the server, its children and their jobs.
func (f *faulty) processes() []process {
	f.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		f.Fatal(err)
	}
	var found []process
	for _, dir := range dirs {
		exe, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil {
			continue // it is gone, or nobody waited for it yet
		}
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		pid, e := strconv.Atoi(filepath.Base(dir))
		if err != nil || e != nil {
			continue
		}
		p := process{pid: pid, args: strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")}
		job := len(p.args) > 2 && p.args[1] == "-C" && strings.HasSuffix(p.args[2], f.suffix)
		if job || strings.HasPrefix(exe, f.bin+"/") {
			found = append(found, p)
		}
	}
	return found
}

// held are the jobs that wait to be let go.
func (f *faulty) held() map[string][]int {
	f.Helper()
	found := map[string][]int{}
	for _, p := range f.processes() {
		if len(p.args) < 4 || p.args[1] != "-C" || f.holds[p.args[2]] != p.args[3] {
			continue
		}
		folder := p.args[2]
		found[folder] = append(found[folder], p.pid)
		if f.seen[folder] == nil {
			f.seen[folder] = map[int]bool{}
		}
		f.seen[folder][p.pid] = true
	}
	return found
}

func (f *faulty) awaitHeld(name string) {
	f.Helper()
	f.await(name+" is held", func() error {
		if len(f.held()[f.folder(name)]) == 0 {
			return errors.New("there is no such job")
		}
		return nil
	})
}

// release lets jobs go on, all or one project's.
func (f *faulty) release(names ...string) {
	f.Helper()
	for folder, pids := range f.held() {
		if len(names) > 0 && !slices.ContainsFunc(names, func(n string) bool { return f.folder(n) == folder }) {
			continue
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil && !errors.Is(err, syscall.ESRCH) {
				f.Fatal(err)
			}
		}
	}
}

// child is the process of the server's that has an argument.
func (f *faulty) child(arg string) int {
	f.Helper()
	for _, p := range f.processes() {
		if slices.Contains(p.args, arg) {
			return p.pid
		}
	}
	f.Fatalf("there is no process with %s", arg)
	return 0
}

func (f *faulty) kill(pid int) {
	f.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		f.Fatal(err)
	}
	f.gone(pid)
}

// gone waits for the end of a process.
func (f *faulty) gone(pid int) {
	f.Helper()
	f.await("the end of a process", func() error {
		if slices.ContainsFunc(f.processes(), func(p process) bool { return p.pid == pid }) {
			return fmt.Errorf("process %d is there", pid)
		}
		return nil
	})
}

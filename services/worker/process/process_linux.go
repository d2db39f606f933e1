package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"skep/services/worker"
)

// nobody owns the job's files and process where this process is root, and is
// who the job is in its own eyes where it is not.
const nobody = 65534

// Launch runs a job. Whatever the job leaves behind in its tree stays there;
// the rest of what it saw is removed.
func (l Launcher) Launch(ctx context.Context, j worker.Job) (exit worker.Exit, err error) {
	binary, err := l.binary(j)
	if err != nil {
		return worker.Exit{}, err
	}
	// The job's root lies in a folder that nobody else may enter, nor the job.
	dir, err := os.MkdirTemp("", "skep-job-")
	if err != nil {
		return worker.Exit{}, err
	}
	p := &place{root: filepath.Join(dir, "root"), owner: os.Getuid() == 0}
	defer func() { err = errors.Join(err, remove(dir)) }()
	defer p.close()
	if err := p.furnish(binary, j); err != nil {
		return worker.Exit{}, err
	}
	// The tree is moved in, and goes back to be the next job's.
	if err := os.Rename(j.Tree, p.path("work")); err != nil {
		return worker.Exit{}, err
	}
	defer func() { err = errors.Join(err, p.giveBack(j.Tree)) }()
	if err := p.hand("work"); err != nil {
		return worker.Exit{}, err
	}
	if j.Deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, j.Deadline, errDeadline)
		defer cancel()
	}
	grace := cmp.Or(j.Grace, l.grace, defaultGrace)
	// The job's process inherits from a thread, and dies with it. The thread is
	// not used for anything else: it ends with the goroutine.
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		exit, err = run(ctx, p, j, grace)
	}()
	<-done
	return exit, err
}

// giveBack moves the tree out. The job may have put something else there.
func (p *place) giveBack(tree string) error {
	info, err := os.Lstat(p.path("work"))
	if err != nil || !info.IsDir() {
		return fmt.Errorf("the job has moved its folder away")
	}
	if !p.owner {
		if err := unlock(p.path("work")); err != nil {
			return err
		}
	}
	return os.Rename(p.path("work"), tree)
}

// remove deletes a folder, whatever modes its folders got.
func remove(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	return errors.Join(unlock(dir), os.RemoveAll(dir))
}

// unlock lets the owner into every folder.
func unlock(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o700)
	})
}

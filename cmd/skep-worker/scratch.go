package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
)

const scratchPrefix = "skep-worker-"

// scratch makes a folder in which all temporary files of this process are, and
// removes those of workers that died before they could do so themselves. A lock
// says that a folder's worker lives: it ends with the process, however that ends.
func scratch(log *slog.Logger) (remove func() error, err error) {
	parent := os.TempDir()
	others, err := filepath.Glob(filepath.Join(parent, scratchPrefix+"*"))
	if err != nil {
		return nil, err
	}
	for _, dir := range others {
		if err := sweep(dir); err != nil {
			log.Warn("what another worker left is not removed", "error", err)
		}
	}
	for {
		dir, err := os.MkdirTemp(parent, scratchPrefix)
		if err != nil {
			return nil, err
		}
		held, err := hold(dir)
		if errors.Is(err, errHeld) || errors.Is(err, fs.ErrNotExist) {
			continue // another worker sweeps just now, and came first
		}
		if err != nil {
			return nil, err
		}
		remove = func() error { return errors.Join(removeAll(dir), held.Close()) }
		if err := os.Setenv("TMPDIR", dir); err != nil {
			return nil, errors.Join(err, remove())
		}
		return remove, nil
	}
}

var errHeld = errors.New("a worker that lives has it")

// hold locks a folder for as long as this process lives.
func hold(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errHeld
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	// It may have been swept before it was locked.
	locked, err := f.Stat()
	now, e := os.Lstat(dir)
	if err := errors.Join(err, e); err != nil || !os.SameFile(locked, now) {
		return nil, errors.Join(fs.ErrNotExist, err, f.Close())
	}
	return f, nil
}

// sweep removes a folder of this user's that nobody holds.
func sweep(dir string) error {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || !ok || int(owner.Uid) != os.Getuid() {
		return nil
	}
	held, err := hold(dir)
	if errors.Is(err, errHeld) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(removeAll(dir), held.Close())
}

// removeAll deletes a folder, whatever modes jobs gave to folders in it.
func removeAll(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o700)
	})
	return errors.Join(err, os.RemoveAll(dir))
}

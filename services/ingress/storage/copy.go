package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/caddyserver/certmagic"
)

// localCopy is what this ingress has read or written, as files that only its
// user can read. A file's time is that of the item in the database.
type localCopy struct {
	files certmagic.FileStorage
	mu    sync.Mutex // held by whoever changes a file
}

// keep writes an item unless the file is newer.
func (c *localCopy) keep(ctx context.Context, k key, it item) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := c.files.Filename(string(k))
	if info, err := os.Stat(name); err == nil && !info.IsDir() {
		if info.ModTime().After(it.modified) {
			return nil
		}
		if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, it.value) {
			return os.Chtimes(name, it.modified, it.modified)
		}
	}
	if err := c.files.Store(ctx, string(k), it.value); err != nil {
		return fmt.Errorf("keep a copy of %s: %w", k, err)
	}
	return os.Chtimes(name, it.modified, it.modified)
}

// forget removes a file; folders stay.
func (c *localCopy) forget(k key) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := c.files.Filename(string(k))
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return nil
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// forgetAll removes a file, or a folder with what is in it.
func (c *localCopy) forgetAll(ctx context.Context, k key) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.files.Delete(ctx, string(k))
}

// keys are the files that there are.
func (c *localCopy) keys(ctx context.Context) ([]key, error) {
	all, err := c.files.List(ctx, "", true)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []key
	for _, k := range all {
		info, err := c.files.Stat(ctx, k)
		if err == nil && info.IsTerminal {
			out = append(out, key(k))
		}
	}
	return out, nil
}

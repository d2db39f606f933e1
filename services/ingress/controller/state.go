package controller

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"skep/services/ingress/label"
	"skep/services/ingress/route"
)

// saved is the last good configuration, as it lies on disk.
type saved struct {
	Frame  json.RawMessage         `json:"frame"`
	Sites  map[string]route.Routes `json:"sites"`
	Claims []label.Claim           `json:"claims"`
	Good   map[string]words        `json:"good"`
}

// words are what a source said when it was last accepted.
type words struct {
	Labels    map[string]string `json:"labels,omitempty"`
	Caddyfile []byte            `json:"caddyfile,omitempty"`
}

func (w words) of(s label.Source) label.Source {
	s.Labels, s.Caddyfile = w.Labels, w.Caddyfile
	return s
}

func (w words) same(s *label.Source) bool {
	return maps.Equal(w.Labels, s.Labels) && bytes.Equal(w.Caddyfile, s.Caddyfile)
}

func load(path string) (*saved, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the last good configuration: %w", err)
	}
	var s saved
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("read the last good configuration: %w", err)
	}
	return &s, nil
}

// store replaces the file in one step: what is there is always whole.
func (s *saved) store(path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("store the last good configuration: %w", err)
		}
	}()
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".ingress-*") // 0600: labels may hold password hashes
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(text); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

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
	"slices"

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

// encode writes what is JSON already as it is: to have it read and copied
// again is most of the work of a change.
func (s *saved) encode() ([]byte, error) {
	rest, err := json.Marshal(struct {
		Claims []label.Claim    `json:"claims"`
		Good   map[string]words `json:"good"`
	}{s.Claims, s.Good})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.WriteString(`{"frame":`)
	out.Write(s.Frame)
	out.WriteString(`,"sites":{`)
	for i, name := range slices.Sorted(maps.Keys(s.Sites)) {
		key, err := json.Marshal(name)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(key)
		out.WriteString(":{")
		routes := s.Sites[name]
		if len(routes.Primary) > 0 {
			out.WriteString(`"routes":`)
			out.Write(routes.Primary)
		}
		if len(routes.Errors) > 0 {
			if len(routes.Primary) > 0 {
				out.WriteByte(',')
			}
			out.WriteString(`"errors":`)
			out.Write(routes.Errors)
		}
		out.WriteByte('}')
	}
	out.WriteString("},")
	out.Write(rest[1:])
	return out.Bytes(), nil
}

// store replaces the file in one step: what is there is always whole.
func (s *saved) store(path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("store the last good configuration: %w", err)
		}
	}()
	if len(s.Frame) == 0 {
		return errors.New("there is none")
	}
	text, err := s.encode()
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

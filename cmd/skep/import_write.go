package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"skep/generator/importer"
	"skep/generator/scaffold"
	"skep/generator/spec"
)

// propose adds a cluster file, and an ingress where no file runs one.
func (run *imported) propose() error {
	name := folderName(run.dir)
	if run.dir == "stacks" {
		name = folderName(".")
	}
	run.add(spec.ClusterFile, append([]byte(schemaLine(".schema/cluster.json")), importer.Cluster(run.results, name)...))
	run.add(".gitignore", []byte("build/\n.env\n"))
	routed := slices.ContainsFunc(run.results, func(r importer.Result) bool { return len(r.Hosts) > 0 })
	if !routed || slices.ContainsFunc(run.results, func(r importer.Result) bool { return r.Ingress != "" || r.Name == "ingress" }) {
		return nil
	}
	started, err := scaffold.Project{Name: "ingress", Domain: "localhost"}.Files()
	if err != nil {
		return err
	}
	for _, f := range started {
		if name, ok := strings.CutPrefix(f.Path, "stacks/"); ok && strings.HasPrefix(name, "infrastructure/ingress/") {
			run.add(name, f.Content)
		}
	}
	run.hint = "no file runs Caddy with caddy-docker-proxy, so an ingress was added that publishes ports 80 and 443; if you have one, import its file too"
	return nil
}

// write puts the files into the project, or none of them.
func (run *imported) write(force bool) error {
	var there []string
	run.files = slices.DeleteFunc(run.files, func(f outputFile) bool {
		old, err := os.ReadFile(run.path(f))
		if err == nil && bytes.Equal(old, f.content) || err == nil && f.shared() {
			return true
		}
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			there = append(there, filepath.ToSlash(run.path(f)))
		}
		return false
	})
	if len(there) > 0 && !force {
		return failed(fmt.Errorf("%w: %s", scaffold.ErrExists, strings.Join(there, ", "))).
			because("nothing was written; --force overwrites, --stdout shows what would be written")
	}
	staged := make([]string, 0, len(run.files))
	defer func() {
		for _, name := range staged {
			os.Remove(name) // renamed by now, unless something failed
		}
	}()
	for _, f := range run.files {
		name, err := stage(run.path(f), f.content)
		if err != nil {
			return err
		}
		staged = append(staged, name)
	}
	for i, f := range run.files {
		if err := os.Rename(staged[i], run.path(f)); err != nil {
			return err
		}
	}
	return nil
}

func (run *imported) path(f outputFile) string {
	return filepath.Join(run.dir, filepath.FromSlash(f.path))
}

// shared files serve the whole project and stay as they are.
func (f outputFile) shared() bool {
	return f.path == ".gitignore" || strings.HasPrefix(f.path, ".schema/")
}

// stage writes content beside path, under a name of its own.
func stage(path string, content []byte) (string, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".import-*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(content)
	mode := os.FileMode(0o644)
	if filepath.Base(path) == ".env" {
		mode = 0o600
	}
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err != nil {
		os.Remove(f.Name())
	}
	return f.Name(), err
}

// Package scaffold writes the files that a project starts with.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"skep/generator/spec"
	"skep/generator/stack"
)

//go:embed files
var files embed.FS

// ErrExists says that a file is there already; nothing is ever overwritten.
var ErrExists = errors.New("already there")

// File is a file to write, by its path in the folder.
type File struct {
	Path    string
	Content []byte
}

// Project is a new project. The project folder is stacks/ in the folder.
type Project struct {
	Name   stack.Name
	Domain stack.Host
}

// Files are what the project starts with: an ingress and one stack behind it.
func (p Project) Files() ([]File, error) {
	schemas, err := Schemas()
	if err != nil {
		return nil, err
	}
	out := []File{{".gitignore", []byte("build/\n.env\n")}}
	for _, f := range []struct{ path, template string }{
		{spec.ClusterFile, "cluster.yaml"},
		{"infrastructure/ingress/stack.yaml", "ingress.yaml"},
		{"application/whoami/stack.yaml", "whoami.yaml"},
	} {
		content, err := render(f.template, p)
		if err != nil {
			return nil, err
		}
		out = append(out, File{"stacks/" + f.path, content})
	}
	for _, s := range schemas {
		out = append(out, File{"stacks/" + s.Path, s.Content})
	}
	return out, nil
}

// Schemas are the files that editors complete and check by, relative to the
// project.
func Schemas() ([]File, error) {
	stackSchema, err := spec.StackSchema()
	if err != nil {
		return nil, err
	}
	clusterSchema, err := spec.ClusterSchema()
	if err != nil {
		return nil, err
	}
	return []File{{".schema/stack.json", append(stackSchema, '\n')}, {".schema/cluster.json", append(clusterSchema, '\n')}}, nil
}

// Stack is a new stack of one service.
type Stack struct {
	Name  stack.Name
	Tier  stack.Tier
	Image string // empty: an example
	Host  string // empty: its name
	Port  uint16 // 0: it has no route, unless it is the example
}

const exampleImage = "ghcr.io/skep-sh/whoami:0.1.0"

// File is the stack's file, relative to the project.
func (s Stack) File() (File, error) {
	at := path.Join(string(s.Tier), string(s.Name), "stack.yaml")
	example := s.Image == ""
	data := struct {
		Name    stack.Name
		Tier    stack.Tier
		Schema  string
		Image   string
		Host    string
		Port    uint16
		Example bool
		Routed  bool
	}{s.Name, s.Tier, "../../.schema/stack.json", scalar(s.Image), scalar(s.Host), s.Port, example, s.Host != "" || s.Port != 0 || example}
	if example {
		data.Image = exampleImage
	}
	if s.Host == "" {
		data.Host = scalar(string(s.Name))
	}
	if s.Port == 0 {
		data.Port = 8080
	}
	content, err := render("stack.yaml", data)
	return File{at, content}, err
}

// scalar writes a string as YAML, quoted unless it is plain in any place.
func scalar(s string) string {
	plain := s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/@-:") == "" &&
		!strings.HasPrefix(s, "-") && !strings.HasPrefix(s, "@") && !strings.HasSuffix(s, ":") && !isOther(s)
	if plain {
		return s
	}
	return strconv.Quote(s)
}

// isOther reports whether YAML would read a plain scalar as something else
// than text.
func isOther(s string) bool {
	switch strings.ToLower(s) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n", ".":
		return true
	}
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

func render(name string, data any) ([]byte, error) {
	t, err := template.ParseFS(files, "files/"+name)
	if err != nil {
		return nil, fmt.Errorf("read template %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return nil, fmt.Errorf("fill template %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// Write writes files into a folder, or none of them when one exists.
func Write(dir string, list []File) error {
	var existing []string
	for _, f := range list {
		if _, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(f.Path))); err == nil {
			existing = append(existing, f.Path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if len(existing) > 0 {
		return fmt.Errorf("%w: %s", ErrExists, strings.Join(existing, ", "))
	}
	for _, f := range list {
		if err := create(filepath.Join(dir, filepath.FromSlash(f.Path)), f.Content); err != nil {
			return err
		}
	}
	return nil
}

func create(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

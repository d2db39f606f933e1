package main

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"github.com/urfave/cli/v2"

	"skep/generator/bundle"
	"skep/generator/check"
	"skep/generator/expand"
	"skep/generator/problem"
	"skep/generator/spec"
	"skep/generator/stack"
	"skep/services/ingress"
)

// project is what the commands work on. The cluster is nil when cluster.yaml
// cannot be read; the bundle is nil when the stack files give none. It may be
// written or deployed only when the problems hold no error.
type project struct {
	dir      string
	cluster  *stack.Cluster
	bundle   *bundle.Bundle
	problems problem.List
}

// find locates the project that the global flags name.
func find(c *cli.Context) (string, error) {
	dir, err := spec.FindProject(c.String("C"))
	if errors.Is(err, spec.ErrNoProject) {
		return "", failed(err).because("`skep init` writes one to start from; -C FOLDER says where it is")
	}
	return dir, err
}

// purpose is what a bundle is made for.
type purpose int

const (
	toRead   purpose = iota
	toDeploy         // keeps what Docker's loader made of the stacks
)

// load reads the project and runs every check on it.
func load(c *cli.Context, to purpose) (*project, error) {
	dir, err := find(c)
	if err != nil {
		return nil, err
	}
	p := &project{dir: dir}
	p.cluster, p.problems = spec.Load(c.Context, dir, spec.Options{Profiles: c.StringSlice("profile"), KnownRules: check.Waivable()})
	if err := c.Context.Err(); err != nil {
		return nil, err
	}
	if p.cluster == nil {
		return p, nil
	}
	if p.problems.Failed() {
		p.problems = append(p.problems, sound(p.cluster, p.problems)...).Sorted()
		return p, nil
	}
	b, found, err := compileCluster(c.Context, p.cluster, to)
	if err != nil {
		return nil, err
	}
	p.bundle, p.problems = b, append(p.problems, found...).Sorted()
	return p, nil
}

// compileCluster runs every check on a cluster and expands it. The bundle is
// nil when the checks have said why there is none.
func compileCluster(ctx context.Context, c *stack.Cluster, to purpose) (*bundle.Bundle, problem.List, error) {
	found := check.Run(c)
	b, err := expand.Expand(c)
	switch {
	case err != nil && found.Failed():
		return nil, found, nil // in better words than the error's
	case err != nil:
		return nil, nil, err
	}
	b.Keep = to == toDeploy
	var docker problem.List
	var beside sync.WaitGroup
	beside.Go(func() { docker = check.Docker(b, c) }) // the ingress looks at one configuration after the other
	labels := check.Labels(ctx, b, ingress.For(b))
	beside.Wait()
	return b, slices.Concat(found, docker, labels), nil
}

// sound checks the stacks whose files are whole, so that one run names all
// problems. What the cluster file is told is left out: it may lack a stack
// that is there and cannot be read.
func sound(c *stack.Cluster, found problem.List) problem.List {
	broken := map[string]bool{}
	for _, p := range found {
		if p.Severity == problem.Error {
			broken[p.File] = true
		}
	}
	if broken[spec.ClusterFile] {
		return nil
	}
	part := *c
	part.Stacks = slices.DeleteFunc(slices.Clone(c.Stacks), func(s *stack.Stack) bool { return broken[s.File] })
	return slices.DeleteFunc(check.Run(&part), func(p problem.Problem) bool {
		return p.File == spec.ClusterFile || broken[p.File]
	})
}

// path is how a person at the working directory calls a file of the project.
func (p *project) path(file string) string {
	full := filepath.Join(p.dir, filepath.FromSlash(file))
	wd, err := os.Getwd()
	if err != nil || !filepath.IsAbs(full) {
		return filepath.ToSlash(full)
	}
	if rel, err := filepath.Rel(wd, full); err == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel)
	}
	return filepath.ToSlash(full)
}

// source reads a file of the project to show a line of it.
func (p *project) source(file string) ([]byte, error) {
	return os.ReadFile(filepath.Join(p.dir, filepath.FromSlash(file)))
}

// text renders problems for a person who reads w.
func (p *project) text(w any) problem.Text {
	f, _ := w.(*os.File)
	return problem.Text{Color: f != nil && colored(f), Path: p.path, Source: p.source}
}

// named are the problems with their files named as path names them.
func (p *project) named() problem.List {
	out := make(problem.List, len(p.problems))
	for i, found := range p.problems {
		found.File = p.path(found.File)
		out[i] = found
	}
	return out
}

// stacks counts the stacks of the project, with those whose file is broken.
func (p *project) stacks() int {
	if p.cluster == nil {
		return 0
	}
	files := map[string]bool{}
	for _, s := range p.cluster.Stacks {
		files[s.File] = true
	}
	for _, found := range p.problems {
		if found.Severity == problem.Error && path.Ext(found.File) != ".lock" && found.File != spec.ClusterFile {
			files[found.File] = true
		}
	}
	return len(files)
}

// compile is load for commands that need a bundle: errors are printed and end
// the program.
func (p *program) compile(c *cli.Context, to purpose) (*project, error) {
	loaded, err := load(c, to)
	if err != nil {
		return nil, err
	}
	if loaded.problems.Failed() {
		return nil, p.refuse(c, loaded)
	}
	return loaded, nil
}

// refuse prints why a project cannot be used.
func (p *program) refuse(c *cli.Context, loaded *project) error {
	if c.Bool("json") {
		if err := p.writeJSON(reportOf(loaded)); err != nil {
			return err
		}
		return &failure{code: exitProblems}
	}
	if err := loaded.text(p.stderr).Write(p.stderr, loaded.problems); err != nil {
		return err
	}
	return (&failure{code: exitProblems, err: errors.New(loaded.problems.Summary(loaded.stacks()))}).
		because("nothing was written; `skep explain RULE` says more about a rule")
}

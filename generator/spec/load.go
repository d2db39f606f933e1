// Package spec reads a project, cluster.yaml and its stack files, into the
// model of generator/stack. Everything that a file can get wrong is found
// here, with its position; it is the only part of the generator that reads
// files.
package spec

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/bmatcuk/doublestar/v4"

	"skep/generator/problem"
	"skep/generator/stack"
)

// ClusterFile is the name of the file that makes a folder a project.
const ClusterFile = "cluster.yaml"

// ErrNoProject says that a folder has no cluster file.
var ErrNoProject = errors.New("no cluster.yaml here")

// Options change how a project is read.
type Options struct {
	// Profiles are Compose profiles to activate beside the cluster file's.
	Profiles []string
	// KnownRules are the rules that a waiver may name, beside the loader's.
	KnownRules []string
}

// FindProject returns the project folder: dir when it is given, else the
// working directory or its folder stacks.
func FindProject(dir string) (string, error) {
	candidates := []string{dir}
	if dir == "" {
		candidates = []string{".", "stacks"}
	}
	for _, c := range candidates {
		_, err := os.Stat(filepath.Join(c, ClusterFile))
		if err == nil {
			return c, nil
		}
		if errors.Is(err, fs.ErrPermission) { // it may be there
			return "", err
		}
	}
	if dir != "" {
		return "", fmt.Errorf("%s: %w", dir, ErrNoProject)
	}
	return "", ErrNoProject
}

// Load reads the project in dir. The cluster is whole only when the problems
// hold no error.
func Load(ctx context.Context, dir string, opts Options) (*stack.Cluster, problem.List) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, problem.List{ruleFile.At(problem.Position{File: ClusterFile}, "%s", err)}
	}
	var ahead sync.WaitGroup
	defer ahead.Wait()
	ahead.Go(func() { composeSchema() }) // the first file waits for it
	cluster, patterns, profiles, problems := loadCluster(root)
	if cluster == nil {
		return nil, problems
	}
	files, found := findStacks(root, patterns, cluster.Positions)
	problems = append(problems, found...)
	l := &stackLoader{root: root, cluster: cluster, profiles: append(profiles, opts.Profiles...), rules: opts.KnownRules}
	stacks, found := l.loadAll(ctx, files)
	problems = append(problems, found...)

	byName := map[stack.Name]*stack.Stack{}
	for _, s := range stacks {
		if first, ok := byName[s.Name]; ok {
			problems = append(problems, ruleDuplicate.At(s.Pos, "stack %q is also %s", s.Name, first.File).
				WithRemedy("give one of them another name"))
			continue
		}
		byName[s.Name] = s
		cluster.Stacks = append(cluster.Stacks, s)
	}
	slices.SortFunc(cluster.Stacks, func(a, b *stack.Stack) int { return strings.Compare(string(a.Name), string(b.Name)) })
	problems = append(problems, resolve(cluster)...)
	return cluster, problems.Sorted()
}

// findStacks expands the cluster file's patterns to files, sorted, each once. A
// pattern that somebody wrote there and that finds nothing is likely misspelt.
func findStacks(root string, patterns []string, at stack.Positions) ([]string, problem.List) {
	var files []string
	var problems problem.List
	for i, pattern := range patterns {
		found, err := doublestar.FilepathGlob(filepath.Join(root, filepath.FromSlash(pattern)), doublestar.WithFilesOnly(), doublestar.WithNoFollow())
		files = append(files, found...)
		pos := at.At("stacks", itoa(i))
		switch {
		case err != nil:
			problems = append(problems, ruleValue.At(pos, "pattern %q: %s", pattern, err).WithRemedy("a pattern looks like media/*/stack.yaml or **/stack.yaml"))
		case len(found) == 0 && at.Has("stacks"):
			p := ruleFile.At(pos, "pattern %q finds no stack file", pattern).WithRemedy("it is relative to the folder of %s; take it out when there is nothing yet", ClusterFile)
			p.Severity = problem.Warning
			problems = append(problems, p)
		}
	}
	slices.Sort(files)
	return slices.Compact(files), problems
}

// stackLoader loads the stacks of one project.
type stackLoader struct {
	root     string
	cluster  *stack.Cluster
	profiles []string
	rules    []string
}

// loadAll loads files in parallel and returns the stacks in their order.
func (l *stackLoader) loadAll(ctx context.Context, files []string) ([]*stack.Stack, problem.List) {
	type result struct {
		stack    *stack.Stack
		problems problem.List
	}
	results := make([]result, len(files))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(files)) {
		workers.Go(func() {
			for i := range next {
				results[i].stack, results[i].problems = l.load(ctx, files[i])
			}
		})
	}
	for i := range files {
		next <- i
	}
	close(next)
	workers.Wait()

	var stacks []*stack.Stack
	var problems problem.List
	for _, r := range results {
		if r.stack != nil {
			stacks = append(stacks, r.stack)
		}
		problems = append(problems, r.problems...)
	}
	return stacks, problems
}

// relative is a file's name for people: from the project, with slashes.
func (l *stackLoader) relative(path string) string {
	if rel, err := filepath.Rel(l.root, path); err == nil {
		return filepath.ToSlash(rel)
	}
	return path
}

// load reads one stack file.
func (l *stackLoader) load(ctx context.Context, path string) (*stack.Stack, problem.List) {
	if err := ctx.Err(); err != nil {
		return nil, problem.List{ruleFile.At(problem.Position{File: l.relative(path)}, "%s", err)}
	}
	doc, problems := readDocument(path, l.relative(path))
	if doc == nil {
		return nil, problems
	}
	found, err := checkSchema(doc)
	if err != nil {
		return nil, problem.List{ruleFile.At(doc.positions.At(), "%s", err)}
	}
	problems = append(problems, found...)
	problems = append(problems, misspelt(doc)...)
	problems = append(problems, l.adopt(doc, path, nil)...)
	if problems.Failed() {
		return nil, append(problems, decodeKeys(doc)...)
	}
	name, _ := doc.values["name"].(string)
	if name == "" {
		name = filepath.Base(filepath.Dir(path))
	}
	stackName, err := stack.ParseName(name)
	if err != nil {
		return nil, append(problems, ruleValue.At(doc.positions.At("name"), "%s", err).WithRemedy("set `name:` at the top of the file"))
	}
	env, fault := environment(l.relative, filepath.Join(l.root, ".env"), filepath.Join(filepath.Dir(path), ".env"))
	if fault != nil {
		return nil, append(problems, *fault)
	}
	if doc.values["services"] == nil && doc.values["include"] == nil {
		p := ruleValue.At(doc.positions.At(), "the file has no services")
		return nil, append(problems, p.WithRemedy("a stack file starts with `name:` and `services:`"))
	}
	project, found := loadCompose(ctx, doc, path, name, env, l.profiles)
	problems = append(problems, found...)
	if project == nil {
		return nil, problems
	}
	c := &converter{stackLoader: l, doc: doc, dir: filepath.Dir(path), project: project,
		decoder: &decoder{positions: doc.positions}}
	s := c.stack(stackName)
	return s, append(problems, c.decoder.problems...)
}

// decodeKeys finds what is wrong with the x- keys of a file that Compose will
// not see, so that one run tells of everything.
func decodeKeys(doc *document) problem.List {
	d := &decoder{positions: doc.positions}
	services, _ := doc.values["services"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if service, ok := services[name].(map[string]any); ok {
			_, extensions := splitExtensions(service)
			d.decode(extensions, new(serviceKeys), "services", name)
		}
	}
	return d.problems
}

// adopt takes in the positions of files that include and extends bring, after
// holding them to the same limits as the stack file itself.
func (l *stackLoader) adopt(doc *document, path string, seen []string) problem.List {
	if slices.Contains(seen, path) || len(seen) > 16 {
		return nil // the Compose loader names the cycle
	}
	seen = append(seen, path)
	var problems problem.List
	other := func(name string, at ...string) *document {
		file := name
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(path), file)
		}
		if !l.inside(file) {
			problems = append(problems, ruleFile.At(doc.positions.At(at...), "%s is outside the project", name).
				WithRemedy("copy it into the project, or move cluster.yaml up"))
			return nil
		}
		d, found := readDocument(file, l.relative(file))
		problems = append(problems, found...)
		if d != nil {
			problems = append(problems, l.adopt(d, file, seen)...)
		}
		return d
	}
	for i, include := range asList(doc.values["include"]) {
		var paths []any
		switch v := include.(type) {
		case string:
			paths = []any{v}
		case map[string]any:
			paths = asList(v["path"])
		}
		for _, p := range paths {
			if s, ok := p.(string); ok && !strings.Contains(s, "$") {
				if d := other(s, "include", itoa(i)); d != nil {
					doc.positions.Adopt(d.positions, nil, nil)
				}
			}
		}
	}
	services, _ := doc.values["services"].(map[string]any)
	for name, v := range services {
		service, _ := v.(map[string]any)
		from, base := doc, ""
		switch e := service["extends"].(type) {
		case string:
			base = e
		case map[string]any:
			base, _ = e["service"].(string)
			if f, ok := e["file"].(string); ok && !strings.Contains(f, "$") {
				from = other(f, "services", name, "extends")
			}
		}
		if base != "" && from != nil {
			doc.positions.Adopt(from.positions, []string{"services", base}, []string{"services", name})
		}
	}
	return problems
}

// inside reports whether a path stays in the project once links are followed.
func (l *stackLoader) inside(path string) bool {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	root := l.root
	if real, err := filepath.EvalSymlinks(root); err == nil {
		root = real
	}
	rel, err := filepath.Rel(root, path)
	return err == nil && filepath.IsLocal(rel)
}

// misspelt finds x- keys that are probably meant to be Skep's.
func misspelt(doc *document) problem.List {
	var problems problem.List
	look := func(m map[string]any, known fields, path ...string) {
		for k := range m {
			if _, ok := known.byKey[k]; ok || !strings.HasPrefix(k, "x-") {
				continue
			}
			if near, ok := nearest(strings.TrimPrefix(k, "x-"), withoutX(known.keys)); ok {
				problems = append(problems, ruleKey.At(doc.positions.At(append(path[:len(path):len(path)], k)...), "unknown key %q", k).
					WithRemedy("did you mean %q?", "x-"+near))
			}
		}
	}
	look(doc.values, fieldsOf(stackKeysType))
	services, _ := doc.values["services"].(map[string]any)
	for name, v := range services {
		if m, ok := v.(map[string]any); ok {
			look(m, fieldsOf(serviceKeysType), "services", name)
		}
	}
	return problems
}

var (
	stackKeysType   = reflect.TypeFor[stackKeys]()
	serviceKeysType = reflect.TypeFor[serviceKeys]()
)

func withoutX(keys []string) []string {
	out := make([]string, 0, len(keys))
	for _, k := range keys {
		out = append(out, strings.TrimPrefix(k, "x-"))
	}
	return out
}

func asList(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	default:
		return []any{v}
	}
}

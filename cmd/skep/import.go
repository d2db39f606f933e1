package main

import (
	"cmp"
	"errors"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"skep/generator/check"
	"skep/generator/importer"
	"skep/generator/problem"
	"skep/generator/scaffold"
	"skep/generator/spec"
	"skep/generator/stack"
)

func (p *program) importCommand() *cli.Command {
	return &cli.Command{
		Name:      "import",
		Usage:     "Turn Compose files with labels into stack files",
		ArgsUsage: "FILE...",
		Description: "Reads Compose files as `docker stack deploy` takes them and says with x- keys what their labels, networks\n" +
			"and helpers meant: routes of caddy-docker-proxy, Homepage, AutoKuma, docker socket proxies, `op inject`.\n" +
			"What has no key stays as it was and is listed. The Compose files are not changed. Name files that share\n" +
			"networks together. Without a cluster.yaml it proposes one.\n\n" +
			"Examples:\n   skep import media/compose.yaml monitoring/compose.yaml\n   skep import --stdout compose.yaml\n   skep import --name media --tier platform docker-stack.yml",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.StringFlag{Name: "o", Usage: "project `FOLDER` to write to (default: the project, or stacks)"},
			&cli.StringFlag{Name: "name", Usage: "`NAME` that the stack is deployed by, for a single file (default: the file's name:, or the folder's)"},
			&cli.StringFlag{Name: "tier", Usage: "`TIER` of the stacks (default: the first for the ingress, the last for others)"},
			&cli.BoolFlag{Name: "stdout", Usage: "print the files and write none"},
			&cli.BoolFlag{Name: "force", Usage: "overwrite files that are there"},
		},
		Action: p.runImport,
	}
}

// imported is one run of import.
type imported struct {
	dir     string         // of the project
	cluster *stack.Cluster // nil: there is none yet
	inputs  []importer.Input
	results []importer.Result
	files   []outputFile
	hint    string
}

// outputFile is a file to write, by its path in the project.
type outputFile struct {
	path    string
	content []byte
}

func (p *program) runImport(c *cli.Context) error {
	if !c.Args().Present() {
		return usage("import takes Compose files").because("skep import compose.yaml")
	}
	if c.NArg() > 1 && c.IsSet("name") {
		return usage("--name goes with a single file, and there are %d", c.NArg()).because("write `name:` at the top of each file")
	}
	run := &imported{}
	if err := p.importTarget(c, run); err != nil {
		return err
	}
	for _, file := range c.Args().Slice() {
		in, closeInput, err := composeInput(file)
		if err != nil {
			return err
		}
		defer closeInput()
		in.Cluster, in.Tier = run.cluster, stack.Tier(c.String("tier"))
		in.Name = cmp.Or(c.String("name"), in.Name)
		run.inputs = append(run.inputs, in)
	}
	var problems problem.List
	run.results, problems = importer.Import(run.inputs)
	if problems.Failed() {
		return p.refuseImport(c, problems)
	}
	if err := run.arrange(); err != nil {
		return err
	}
	if c.Bool("stdout") {
		return p.printImport(c, run)
	}
	if err := run.write(c.Bool("force")); err != nil {
		return err
	}
	return p.reportImport(c, run)
}

// importTarget finds the project that the stacks join.
func (p *program) importTarget(c *cli.Context, run *imported) error {
	run.dir = c.String("o")
	if run.dir == "" {
		run.dir = c.String("C")
	}
	found, err := spec.FindProject(run.dir)
	if errors.Is(err, spec.ErrNoProject) {
		run.dir = cmp.Or(run.dir, "stacks")
		if t := stack.Tier(c.String("tier")); t != "" && !slices.Contains(importer.Tiers, t) {
			return usage("there is no tier %q", t).because("one of %s", joinTiers(importer.Tiers))
		}
		return nil
	}
	if err != nil {
		return err
	}
	run.dir = found
	cluster, problems := spec.Load(c.Context, found, spec.Options{KnownRules: check.Waivable()})
	if cluster == nil || slices.ContainsFunc(problems, func(p problem.Problem) bool {
		return p.Severity == problem.Error && p.File == spec.ClusterFile && p.Rule != "unknown-name"
	}) {
		return p.refuse(c, &project{dir: found, problems: problems})
	}
	if t := stack.Tier(c.String("tier")); t != "" && !slices.Contains(cluster.Tiers, t) {
		return usage("there is no tier %q", t).because("cluster.yaml declares %s", joinTiers(cluster.Tiers))
	}
	run.cluster = cluster
	return nil
}

// composeInput opens a Compose file and the folder that it lies in.
func composeInput(file string) (importer.Input, func(), error) {
	f, err := os.Open(file)
	if err != nil {
		return importer.Input{}, nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return importer.Input{}, nil, usage("%s is a folder", file).because("name the Compose file in it: skep import %s", filepath.Join(file, "compose.yaml"))
	}
	content, err := io.ReadAll(io.LimitReader(f, importer.MaxFileSize+1))
	if err != nil {
		return importer.Input{}, nil, err
	}
	// A root keeps links inside of the folder.
	beside, err := os.OpenRoot(filepath.Dir(file))
	if err != nil {
		return importer.Input{}, nil, err
	}
	in := importer.Input{Name: stackNameOf(file), File: filepath.ToSlash(file), Content: content, Beside: beside.FS()}
	return in, func() { beside.Close() }, nil
}

// usualName is what says in a file's name that it is a Compose file.
var usualName = regexp.MustCompile(`(?i)(^|[._-])(docker|compose|stack|swarm|prod|production)([._-]|$)`)

// stackNameOf makes a stack's name of the file's, or of the folder's where
// that says nothing: compose.media.yaml is media, media/compose.yaml too.
func stackNameOf(file string) string {
	base := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	for usualName.MatchString(base) {
		base = usualName.ReplaceAllString(base, ".")
	}
	if base = strings.Trim(notInName.ReplaceAllString(strings.ToLower(base), "-"), "-"); base != "" {
		return base
	}
	return folderName(filepath.Dir(file))
}

// refuseImport prints why nothing was imported.
func (p *program) refuseImport(c *cli.Context, problems problem.List) error {
	if c.Bool("json") {
		if err := p.writeJSON(problemReport{
			Stacks: c.NArg(), Errors: problems.Count(problem.Error), Warnings: problems.Count(problem.Warning), Problems: problems,
		}); err != nil {
			return err
		}
		return &failure{code: exitProblems}
	}
	text := problem.Text{Color: colored(p.stderr), Source: os.ReadFile}
	if err := text.Write(p.stderr, problems); err != nil {
		return err
	}
	return (&failure{code: exitProblems, err: errors.New("there is nothing to import")}).because("nothing was written")
}

// arrange settles which files the project gets.
func (run *imported) arrange() error {
	taken := map[stack.Name]string{}
	for i, r := range run.results {
		file := run.inputs[i].File
		if other, ok := taken[r.Name]; ok {
			return usage("%s and %s are both stack %s", other, file, r.Name).because("write `name:` at the top of each, as they were deployed")
		}
		taken[r.Name] = file
		folder := run.folder(r)
		if sameFolder(filepath.Dir(file), filepath.Join(run.dir, filepath.FromSlash(folder))) {
			return usage("%s lies where its stack goes", file).because("move it out of the project, then import it")
		}
		up := strings.Repeat("../", strings.Count(folder, "/")+1)
		run.add(path.Join(folder, "stack.yaml"), append([]byte(schemaLine(up+".schema/stack.json")), r.Stack...))
		for _, name := range slices.Sorted(maps.Keys(r.Files)) {
			run.add(path.Join(folder, name), r.Files[name])
		}
	}
	schemas, err := scaffold.Schemas()
	if err != nil {
		return err
	}
	for _, f := range schemas {
		run.add(f.Path, f.Content)
	}
	if run.cluster != nil {
		return nil
	}
	return run.propose()
}

// schemaLine tells editors what a file may hold.
func schemaLine(schema string) string { return "# yaml-language-server: $schema=" + schema + "\n" }

func (run *imported) add(name string, content []byte) {
	run.files = append(run.files, outputFile{name, content})
}

// folder is where a stack goes: where it is, or by its tier and name.
func (run *imported) folder(r importer.Result) string {
	if run.cluster != nil {
		if s, ok := run.cluster.Stack(r.Name); ok {
			return path.Dir(s.File)
		}
	}
	return path.Join(string(r.Tier), string(r.Name))
}

// sameFolder reports whether two names lead to one folder that is there.
func sameFolder(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

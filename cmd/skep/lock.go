package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"skep/generator/bundle"
	"skep/generator/check"
	"skep/generator/problem"
	"skep/generator/spec"
	"skep/generator/stack"
	"skep/services/registry"
)

// imageSource is asked what an image is.
type imageSource interface {
	Image(ctx context.Context, image string) (stack.LockedImage, error)
}

var _ imageSource = registry.Client{}

// parallelReads is how many images are read at once.
const parallelReads = 8

func (p *program) lock() *cli.Command {
	return &cli.Command{
		Name:      "lock",
		Usage:     "Pin every image to its digest in " + spec.ImagesLock,
		ArgsUsage: "[IMAGE...]",
		Description: "Asks the registries for the digest, the entrypoint and the command of every image of the project and\n" +
			"writes them to " + spec.ImagesLock + ", which belongs into version control. Logins are those of `docker login`. An\n" +
			"image that cannot be read keeps its entry.\n\n" +
			"Examples:\n   skep lock\n   skep lock lscr.io/linuxserver/sonarr:4.0.16\n   skep lock --check   # have images moved, or are some not locked?",
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "check", Usage: "write nothing; exit with 1 when the lock is not what the registries say"},
			&cli.DurationFlag{Name: "timeout", Value: 30 * time.Second, Usage: "longest wait for one image"},
		},
		Action: func(c *cli.Context) error { return p.lockImages(c, registry.Client{}) },
	}
}

// lockReport is what --json says.
type lockReport struct {
	File      string        `json:"file"`
	Changes   []imageChange `json:"changes"`
	Failures  []imageError  `json:"failures"`
	Unchanged int           `json:"unchanged"`
}

type imageChange struct {
	Image string            `json:"image"`
	Kind  bundle.ChangeKind `json:"kind"`
	Old   string            `json:"old,omitempty"`
	New   string            `json:"new,omitempty"`
}

type imageError struct {
	Image string `json:"image"`
	Error string `json:"error"`
}

func (p *program) lockImages(c *cli.Context, source imageSource) error {
	dir, err := find(c)
	if err != nil {
		return err
	}
	// The checks are left out: some of them ask for the lock. It holds the images
	// of all profiles, so that activating one changes no entry.
	cluster, problems := spec.Load(c.Context, dir, spec.Options{Profiles: []string{"*"}, KnownRules: check.Waivable()})
	loaded := &project{dir: dir, cluster: cluster, problems: problems}
	if cluster == nil || problems.Failed() {
		return p.refuse(c, loaded)
	}
	images := imagesOf(cluster)
	wanted := images
	if c.NArg() > 0 {
		for _, image := range c.Args().Slice() {
			if !slices.Contains(images, image) {
				return usage("no service runs the image %q", image).because("name it as the stack file does, with its tag")
			}
		}
		wanted = c.Args().Slice()
	}
	read, failures := p.readImages(c, source, wanted)
	if err := c.Context.Err(); err != nil {
		return err
	}
	lock := stack.ImageLock{}
	for _, image := range images {
		if now, ok := read[image]; ok {
			lock[image] = now
		} else if old, ok := cluster.Images[image]; ok {
			lock[image] = old
		}
	}
	report := lockReport{File: loaded.path(spec.ImagesLock), Changes: lockChanges(cluster.Images, lock), Failures: failures}
	report.Unchanged = len(lock) - len(slices.DeleteFunc(slices.Clone(report.Changes), func(ch imageChange) bool { return ch.Kind == bundle.Removed }))
	if !c.Bool("check") && len(report.Changes) > 0 {
		if err := writeLock(filepath.Join(dir, spec.ImagesLock), lock); err != nil {
			return err
		}
	}
	if err := p.printLock(c, report); err != nil {
		return err
	}
	switch {
	case len(failures) > 0:
		return failed(fmt.Errorf("%d of %d images could not be read", len(failures), len(wanted))).
			because("their entries are as before; check the name, `docker login`, the network, or give more --timeout")
	case c.Bool("check") && len(report.Changes) > 0:
		return failed(fmt.Errorf("%s is not what the registries say", report.File)).because("run `skep lock`, look at the difference, and commit it")
	}
	return nil
}

// imagesOf are the images of the cluster that are not pinned by themselves.
func imagesOf(c *stack.Cluster) []string {
	var out []string
	for _, s := range c.Services() {
		if s.Compose.Image != "" && !strings.Contains(s.Compose.Image, "@") {
			out = append(out, s.Compose.Image)
		}
		if s.DockerAPI != nil && !strings.Contains(c.Defaults.DockerProxy, "@") {
			out = append(out, c.Defaults.DockerProxy)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// readImages asks for images, several at once, and tells a person at a
// terminal how far it is.
func (p *program) readImages(c *cli.Context, source imageSource, images []string) (stack.ImageLock, []imageError) {
	var (
		mu       sync.Mutex
		read     = stack.ImageLock{}
		failures = []imageError{}
		done     int
		workers  sync.WaitGroup
		next     = make(chan string)
	)
	progress := isTerminal(p.stderr) && !c.Bool("json")
	for range min(parallelReads, len(images)) {
		workers.Go(func() {
			for image := range next {
				ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
				locked, err := source.Image(ctx, image)
				if errors.Is(ctx.Err(), context.DeadlineExceeded) {
					err = fmt.Errorf("no answer within %s", c.Duration("timeout"))
				}
				cancel()
				mu.Lock()
				done++
				if err != nil {
					failures = append(failures, imageError{image, err.Error()})
				} else {
					read[image] = locked
				}
				if progress {
					fmt.Fprintf(p.stderr, "\r\x1b[Kreading images %d/%d", done, len(images))
				}
				mu.Unlock()
			}
		})
	}
	for _, image := range images {
		next <- image
	}
	close(next)
	workers.Wait()
	if progress {
		fmt.Fprint(p.stderr, "\r\x1b[K")
	}
	slices.SortFunc(failures, func(a, b imageError) int { return strings.Compare(a.Image, b.Image) })
	return read, failures
}

func lockChanges(old, now stack.ImageLock) []imageChange {
	changes := []imageChange{}
	all := slices.Concat(slices.Collect(maps.Keys(old)), slices.Collect(maps.Keys(now)))
	slices.Sort(all)
	for _, image := range slices.Compact(all) {
		before, was := old[image]
		after, is := now[image]
		switch {
		case !was:
			changes = append(changes, imageChange{Image: image, Kind: bundle.Added, New: after.Digest})
		case !is:
			changes = append(changes, imageChange{Image: image, Kind: bundle.Removed, Old: before.Digest})
		case before.Digest != after.Digest || !slices.Equal(before.Entrypoint, after.Entrypoint) || !slices.Equal(before.Command, after.Command):
			changes = append(changes, imageChange{Image: image, Kind: bundle.Changed, Old: before.Digest, New: after.Digest})
		}
	}
	return changes
}

// writeLock writes images.lock.
func writeLock(path string, lock stack.ImageLock) error {
	content, err := spec.MarshalImages(lock)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return replaceFile(path, content)
}

// replaceFile replaces a file at once.
func replaceFile(path string, content []byte) error {
	staged := path + ".skep-new"
	if err := os.WriteFile(staged, content, 0o644); err != nil {
		return err
	}
	if err := os.Rename(staged, path); err != nil {
		os.Remove(staged)
		return err
	}
	return nil
}

func (p *program) printLock(c *cli.Context, report lockReport) error {
	if c.Bool("json") {
		return p.writeJSON(report)
	}
	paint := problem.Paint{On: colored(p.stdout)}
	for _, ch := range report.Changes {
		line := ""
		switch ch.Kind {
		case bundle.Added:
			line = fmt.Sprintf("%s  %s %s", paint.Green("added  "), ch.Image, ch.New)
		case bundle.Removed:
			line = fmt.Sprintf("%s  %s", paint.Red("removed"), ch.Image)
		default:
			line = fmt.Sprintf("%s  %s %s -> %s", paint.Yellow("changed"), ch.Image, ch.Old, ch.New)
		}
		if _, err := fmt.Fprintln(p.stdout, line); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(p.stdout, "%s: %d changed, %d unchanged\n", report.File, len(report.Changes), report.Unchanged); err != nil {
		return err
	}
	errPaint := problem.Paint{On: colored(p.stderr)}
	for _, f := range report.Failures {
		fmt.Fprintf(p.stderr, "%s: %s\n", errPaint.Bold(f.Image), problem.Printable(f.Error))
	}
	return nil
}

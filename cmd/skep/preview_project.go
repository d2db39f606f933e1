package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	moby "github.com/moby/moby/api/types/swarm"
	"github.com/urfave/cli/v2"

	"skep/generator/bundle"
	"skep/generator/expand"
	"skep/generator/preview"
	"skep/generator/problem"
	"skep/generator/stack"
	"skep/networks"
	"skep/secrets"
	"skep/services/deploy"
	"skep/services/secretsync"
	"skep/services/swarm"
)

// previewProject is a project with the preview of some of its stacks.
type previewProject struct {
	*project // with the originals alone

	name    stack.PreviewName
	stacks  []stack.Name // the originals
	expires time.Time
	taken   map[networks.Name]netip.Prefix
	lock    secrets.Lock

	with   *project       // with the preview
	want   deploy.Project // the preview alone
	wanted []bundle.Secret
}

// previewProject reads the project, and which of its stacks are meant.
func (p *program) previewProject(c *cli.Context, name string, stacks []string) (*previewProject, error) {
	if name == "" {
		return nil, usage("which preview?").because("give it a name: `skep preview up pr-12`")
	}
	parsed, err := stack.ParsePreviewName(name)
	if err != nil {
		return nil, usage("%s", err).because("for example pr-12")
	}
	loaded, err := p.compile(c, toRead)
	if err != nil {
		return nil, err
	}
	out := &previewProject{project: loaded, name: parsed, lock: loaded.cluster.Lock}
	for _, s := range stacks {
		if _, ok := loaded.cluster.Stack(stack.Name(s)); !ok {
			var known []string
			for _, other := range loaded.cluster.Stacks {
				known = append(known, string(other.Name))
			}
			return nil, failed(fmt.Errorf("there is no stack %q", s)).because("the stacks are %s", strings.Join(known, ", "))
		}
		out.stacks = append(out.stacks, stack.Name(s))
	}
	if len(out.stacks) == 0 {
		out.stacks = loaded.cluster.Previews.Stacks
	}
	if len(out.stacks) == 0 {
		return nil, usage("which stacks?").because("name them, or list them in cluster.yaml: `previews: {stacks: [...]}`")
	}
	// What the files alone say is wrong is said before anything is asked.
	if cluster, found := out.transformed(out.lock); found.Failed() {
		return nil, p.refuse(c, &project{dir: out.dir, cluster: cluster, problems: found})
	}
	return out, nil
}

// look takes from the Swarm what the preview keeps: its subnets, and the
// versions of the secrets that it has.
func (v *previewProject) look(live deploy.Live) {
	v.taken = deploy.Subnets(live)
	v.lock = secretsync.Raise(v.lock, live.Secrets, func(s moby.Secret) bool { return s.Spec.Labels[stack.LabelPreview] == string(v.name) })
}

// transformed adds the preview to the cluster, with a lock.
func (v *previewProject) transformed(lock secrets.Lock) (*stack.Cluster, problem.List) {
	cluster := *v.cluster
	cluster.Lock = lock
	return preview.Add(&cluster, preview.Options{Name: v.name, Stacks: v.stacks, Expires: v.expires, Taken: v.taken})
}

// buildPreview checks and compiles the preview. Errors are printed and end the
// program; what is found in the originals was said when they were compiled.
func (p *program) buildPreview(c *cli.Context, v *previewProject) error {
	cluster, found := v.transformed(v.lock)
	v.with = &project{dir: v.dir, cluster: cluster, problems: found}
	if found.Failed() {
		return p.refuse(c, v.with)
	}
	b, broken, err := compileCluster(c.Context, cluster, toDeploy)
	if err != nil {
		return err
	}
	broken = slices.DeleteFunc(broken, func(p problem.Problem) bool { return p.Severity != problem.Error })
	if v.with.problems = append(found, broken...).Sorted(); v.with.problems.Failed() {
		return p.refuse(c, v.with)
	}
	v.with.bundle = b
	if !c.Bool("json") && len(found) > 0 {
		if err := v.with.text(p.stderr).Write(p.stderr, found); err != nil {
			return err
		}
	}
	want, err := deploy.NewProject(cluster, b)
	if err != nil {
		return err
	}
	var names []stack.Name
	for _, s := range v.stacks {
		names = append(names, preview.StackName(v.name, s))
	}
	if v.want, err = want.Only(names...); err != nil {
		return err
	}
	v.want.Networks = nil // a preview makes none that is shared
	v.wanted = v.only(b.Secrets)
	return nil
}

func (v *previewProject) only(list []bundle.Secret) []bundle.Secret {
	return slices.DeleteFunc(slices.Clone(list), func(s bundle.Secret) bool { return s.Preview != string(v.name) })
}

func (v *previewProject) stackNames() []string {
	var out []string
	for _, r := range v.want.Releases {
		out = append(out, string(r.Stack))
	}
	return out
}

// urls are the addresses that the preview answers at.
func (v *previewProject) urls() []string {
	out := []string{}
	for _, s := range v.with.cluster.Stacks {
		if s.Preview == nil {
			continue
		}
		for _, service := range s.Services {
			for _, r := range service.Routes {
				out = append(out, r.URL())
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

var _ secretsync.Project = (*previewProject)(nil)

// Secrets are those of the preview alone.
func (v *previewProject) Secrets(lock secrets.Lock) ([]bundle.Secret, error) {
	cluster, _ := v.transformed(lock)
	b, err := expand.Expand(cluster)
	if err != nil {
		return nil, err
	}
	return v.only(b.Secrets), nil
}

// Lock is the project's, with the versions that the preview has.
func (v *previewProject) Lock() secrets.Lock { return v.lock }

// SaveLock keeps the versions for the deploy; the project's file stays.
func (v *previewProject) SaveLock(lock secrets.Lock) error {
	v.lock = lock
	return nil
}

// sync makes the preview's secrets of what the store has now, and names those
// that are new.
func (v *previewProject) sync(c *cli.Context, engine *swarm.Client) (made []string, err error) {
	if err := secrets.NoCoreDumps(); err != nil {
		return nil, fmt.Errorf("turn core dumps off: %w", err)
	}
	source, stop, err := secretSource(&secretProject{project: v.project})
	if err != nil {
		return nil, err
	}
	defer stop()
	ctx, cancel := context.WithTimeoutCause(c.Context, c.Duration("timeout"), errSlow)
	defer cancel()
	store := v.cluster.Secrets
	syncer := &secretsync.Syncer{Source: source, Swarm: secretEngine{engine},
		Options: secretsync.Options{Cluster: v.cluster.Name, Mode: secretsync.Mode(store.Mode), Driver: store.Driver}}
	plan, err := syncer.Plan(ctx, v)
	if err != nil {
		return nil, err
	}
	done, err := syncer.Apply(ctx, v, plan, false)
	for _, a := range done.Of(secretsync.Create, secretsync.Replace) {
		made = append(made, a.Name)
	}
	if err != nil {
		return made, err
	}
	for _, a := range done.Of(secretsync.Failed) {
		return made, failed(fmt.Errorf("secret %s: %s", a.Name, problem.Printable(a.Why))).
			because("the preview was not deployed; `skep preview up %s` goes on from here", v.name)
	}
	return made, nil
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	moby "github.com/moby/moby/api/types/swarm"
	"github.com/urfave/cli/v2"

	"skep/generator/bundle"
	"skep/generator/check"
	"skep/generator/expand"
	"skep/generator/spec"
	"skep/generator/stack"
	"skep/secrets"
	"skep/secrets/agefile"
	"skep/secrets/environ"
	"skep/secrets/onepassword"
	"skep/services/deploy"
	"skep/services/secretsync"
	"skep/services/swarm"
)

// secretSource is the store that the cluster file names.
func secretSource(project *secretProject) (secrets.Source, func(), error) {
	store := project.cluster.Secrets
	if store.Mode == string(secretsync.Driver) && store.Provider != "onepassword-connect" {
		return nil, nil, usage("secrets: mode driver goes with provider onepassword-connect, it is %s", store.Provider)
	}
	switch store.Provider {
	case "age":
		s, err := agefile.New(filepath.Join(project.dir, filepath.FromSlash(store.File)), os.LookupEnv)
		if err != nil {
			return nil, nil, usage("%s", err)
		}
		return s, func() {}, nil
	case "env":
		return environ.New(os.LookupEnv), func() {}, nil
	}
	host := os.Getenv("OP_CONNECT_HOST")
	if host == "" {
		host = store.Host
	}
	if host == "" {
		return nil, nil, usage("the address of 1Password Connect is not known").because("set OP_CONNECT_HOST, or secrets.host in %s", project.path(spec.ClusterFile))
	}
	token, err := onepassword.TokenFrom(os.LookupEnv)
	if err != nil {
		return nil, nil, usage("%s", err)
	}
	client, err := onepassword.New(host, token, onepassword.Config{UserAgent: "skep/" + versionString()})
	if err != nil {
		return nil, nil, usage("%s", err)
	}
	return client, client.Close, nil
}

// secretProject is a project as far as its secrets go.
type secretProject struct {
	*project
	lock   secrets.Lock
	locked secrets.Lock // that wanted is generated with
	wanted []bundle.Secret
}

var _ secretsync.Project = (*secretProject)(nil)

// secretProject reads the project without checking it: a check that fails is
// no reason to leave a secret unrotated.
func (p *program) secretProject(c *cli.Context) (*secretProject, error) {
	loaded, err := readSecrets(c)
	if err == nil && loaded.cluster == nil || err == nil && loaded.problems.Failed() {
		return nil, p.refuse(c, loaded.project)
	}
	return loaded, err
}

// openSecrets is secretProject for watch, which says everything in its log.
func (p *program) openSecrets(c *cli.Context) (*secretProject, error) {
	loaded, err := readSecrets(c)
	if err == nil && (loaded.cluster == nil || loaded.problems.Failed()) {
		return nil, errors.New(loaded.problems.Summary(loaded.stacks()))
	}
	return loaded, err
}

func readSecrets(c *cli.Context) (*secretProject, error) {
	dir, err := find(c)
	if err != nil {
		return nil, err
	}
	out := &secretProject{project: &project{dir: dir}}
	out.cluster, out.problems = spec.Load(c.Context, dir, spec.Options{Profiles: c.StringSlice("profile"), KnownRules: check.Waivable()})
	if out.cluster != nil {
		out.lock = out.cluster.Lock
	}
	return out, c.Context.Err()
}

// Secrets generates the bundle with a lock.
func (s *secretProject) Secrets(lock secrets.Lock) ([]bundle.Secret, error) {
	if s.wanted != nil && maps.Equal(lock, s.locked) {
		return s.wanted, nil
	}
	cluster := *s.cluster
	cluster.Lock = lock
	b, err := expand.Expand(&cluster)
	if err != nil {
		return nil, err
	}
	s.locked, s.wanted = maps.Clone(lock), b.Secrets
	return s.wanted, nil
}

// Lock is what the file says.
func (s *secretProject) Lock() secrets.Lock { return s.lock }

// SaveLock replaces the file.
func (s *secretProject) SaveLock(lock secrets.Lock) error {
	if err := replaceFile(filepath.Join(s.dir, spec.SecretsLock), lock.Marshal()); err != nil {
		return err
	}
	s.lock = maps.Clone(lock)
	return nil
}

// secretEngine is a Swarm with the revisions that deploys left in it.
type secretEngine struct{ *swarm.Client }

var _ secretsync.Swarm = secretEngine{}

// Secrets fails where a docker proxy hides what the secrets are known by.
func (e secretEngine) Secrets(ctx context.Context) ([]moby.Secret, error) {
	list, err := e.Client.Secrets(ctx)
	return list, cmp.Or(err, deploy.Live{Secrets: list}.Whole())
}

// Revisions reads which secrets the kept revisions mount.
func (e secretEngine) Revisions(ctx context.Context) (map[string][]string, error) {
	configs, err := e.Configs(ctx)
	if err != nil {
		return nil, err
	}
	live := deploy.Live{Configs: configs}
	if err := live.Whole(); err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, r := range deploy.History(live, "") {
		release, err := r.Release()
		if err != nil {
			return nil, err
		}
		for _, name := range declaredSecrets(release.Compose) {
			out[name] = append(out[name], fmt.Sprintf("%s, revision %d", r.Stack, r.Number))
		}
	}
	return out, nil
}

// declaredSecrets are the names that a Compose file's secrets have in the
// Swarm. One without a definition goes by its key.
func declaredSecrets(compose map[string]any) []string {
	declared, _ := compose["secrets"].(map[string]any)
	var out []string
	for _, key := range slices.Sorted(maps.Keys(declared)) {
		def, _ := declared[key].(map[string]any)
		if name, ok := def["name"].(string); ok {
			key = name
		}
		out = append(out, key)
	}
	return out
}

// rotation deploys stacks whose secrets have new versions.
type rotation struct {
	c      *cli.Context
	engine *swarm.Client
	report func(deploy.Event) // nil for nobody
}

var _ secretsync.Deployer = (*rotation)(nil)

// busy makes an error of a deploy a secretsync.ErrBusy, in its own words.
type busy struct{ error }

func (b busy) Unwrap() error { return b.error }

func (busy) Is(target error) bool { return target == secretsync.ErrBusy }

// Deploy compiles the project anew, with the lock that was just written.
func (r *rotation) Deploy(ctx context.Context, stacks []stack.Name) error {
	loaded, err := load(r.c, toDeploy)
	if err != nil {
		return err
	}
	if loaded.problems.Failed() {
		return errors.New(loaded.problems.Summary(loaded.stacks()))
	}
	want, err := deploy.NewProject(loaded.cluster, loaded.bundle)
	if err != nil {
		return err
	}
	if want, err = want.Only(stacks...); err != nil {
		return err
	}
	_, err = deploy.Deploy(ctx, r.engine, want, deploy.Options{
		Who: who(), Commit: committed(ctx, loaded.dir), Now: time.Now, Timeout: r.c.Duration("timeout"), Undo: r.c.Bool("undo"),
		Scope: deploy.Scope{Partial: true}, Report: r.report,
	})
	if errors.Is(err, deploy.ErrLocked) {
		return busy{err}
	}
	return err
}

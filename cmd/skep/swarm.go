package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	"skep/generator/stack"
	"skep/services/deploy"
	"skep/services/swarm"
)

var _ deploy.Engine = (*swarm.Client)(nil)

// withSwarm gives f a client of the Swarm that DOCKER_HOST names.
func withSwarm(f func(engine *swarm.Client) error) error {
	options, err := endpoint()
	if err != nil {
		return err
	}
	engine, err := swarm.New(options...)
	if err != nil {
		return usage("%s", err).because("DOCKER_HOST says where the engine is, as for docker")
	}
	defer engine.Close()
	return advise(f(engine))
}

// withLogins is withSwarm, with the logins of docker where they are asked for.
func withLogins(c *cli.Context, f func(engine *swarm.Client) error) error {
	return withSwarm(func(engine *swarm.Client) (err error) {
		if c.Bool("with-registry-auth") {
			if engine.Credentials, err = swarm.LoadCredentials(""); err != nil {
				return err
			}
		}
		return f(engine)
	})
}

// advise gives an error of the deploy packages the exit code and the remedy
// that people see.
func advise(err error) error {
	var f *failure
	if err == nil || errors.As(err, &f) {
		return err
	}
	out := failed(err)
	switch hint := deploy.Hint(err); {
	case hint != "":
		out.remedy = hint
	case strings.Contains(err.Error(), "not a swarm manager"): // which an engine calls unavailable
		out.remedy = "DOCKER_HOST must name a manager; `docker swarm init` makes this engine one"
	case errdefs.IsUnavailable(err):
		out.remedy = "DOCKER_HOST must name a manager of the Swarm that answers; `skep doctor` looks closer"
	}
	return out
}

// desired compiles the project for a deploy.
func (p *program) desired(c *cli.Context) (*project, deploy.Project, error) {
	loaded, err := p.compile(c, toDeploy)
	if err != nil {
		return nil, deploy.Project{}, err
	}
	want, err := deploy.NewProject(loaded.cluster, loaded.bundle)
	return loaded, want, err
}

// stackNames are the arguments as names of stacks.
func stackNames(c *cli.Context) []stack.Name {
	var out []stack.Name
	for _, arg := range c.Args().Slice() {
		out = append(out, stack.Name(arg))
	}
	return out
}

// who is the person, or the program, that deploys.
func who() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// committed asks Git for the commit when a deploy wants to know it.
func committed(ctx context.Context, dir string) func() string {
	return func() string { return commit(ctx, dir) }
}

// commit is the commit that the project's files are at, with "+changes" when
// they are not; empty outside of a Git repository.
func commit(ctx context.Context, dir string) string {
	git := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).Output()
		return strings.TrimSpace(string(out)), err
	}
	id, err := git("rev-parse", "--short=12", "HEAD")
	if err != nil {
		return ""
	}
	if changes, err := git("status", "--porcelain", "--", "."); err != nil || changes != "" {
		id += "+changes"
	}
	return id
}

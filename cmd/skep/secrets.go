package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"skep/generator/problem"
	"skep/generator/spec"
	"skep/secrets"
	"skep/services/deploy"
	"skep/services/secretsync"
	"skep/services/swarm"
)

func (p *program) secrets() *cli.Command {
	return &cli.Command{
		Name:  "secrets",
		Usage: "Keep the Swarm's secrets at the versions of their items",
		Description: "The references of the project become Swarm secrets, one for each version of the item behind them:\n" +
			"<stack>_<item>-<field>_v<version>. " + spec.SecretsLock + " says which version the bundle asks for. The store is asked\n" +
			"where cluster.yaml says:\n\n" +
			"   onepassword-connect  OP_CONNECT_HOST, OP_CONNECT_TOKEN or OP_CONNECT_TOKEN_FILE\n" +
			"   age                  SKEP_AGE_IDENTITY_FILE or SKEP_AGE_IDENTITY\n" +
			"   env                  SKEP_SECRET_<VAULT>_<ITEM>_<FIELD>, SKEP_SECRETS_VERSION\n\n" +
			"Examples:\n   skep secrets list\n   skep secrets sync && skep deploy\n   skep secrets watch",
		Subcommands: []*cli.Command{p.secretsList(), p.secretsPlan(), p.secretsSync(), p.secretsLock(), p.secretsRotate(), p.secretsWatch()},
	}
}

func secretsTimeout() cli.Flag {
	return &cli.DurationFlag{Name: "timeout", Value: 3 * time.Minute, Usage: "longest wait for the store and the Swarm together"}
}

func noPruneFlag() cli.Flag {
	return &cli.BoolFlag{Name: "no-prune", Usage: "keep versions that no service and no rollback needs"}
}

func (p *program) secretsList() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "List the secrets that the bundle expects",
		Description: "Asks neither the store nor the Swarm.\n\n" +
			"Examples:\n   skep secrets list\n   skep secrets list --json",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			project, err := p.secretProject(c)
			if err != nil {
				return err
			}
			return p.listSecrets(c, project)
		},
	}
}

// listedSecret is what --json says of one.
type listedSecret struct {
	Name       string              `json:"name"`
	Stack      string              `json:"stack"`
	References []secrets.Reference `json:"references"`
	Versions   []string            `json:"versions"` // of the references, empty when not locked
	Services   []string            `json:"services"`
}

func (p *program) listSecrets(c *cli.Context, project *secretProject) error {
	wanted, err := project.Secrets(project.Lock())
	if err != nil {
		return err
	}
	list := []listedSecret{}
	for _, w := range wanted {
		s := listedSecret{Name: w.Name, Stack: string(w.Stack), References: w.Template.References()}
		for _, r := range s.References {
			s.Versions = append(s.Versions, project.Lock()[r].Version)
		}
		for _, name := range w.Services {
			s.Services = append(s.Services, string(name))
		}
		list = append(list, s)
	}
	if c.Bool("json") {
		return p.writeJSON(map[string]any{"secrets": list})
	}
	out := tabwriter.NewWriter(p.stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(out, "SECRET\tREFERENCE\tVERSION\tSERVICES")
	for _, s := range list {
		for i, r := range s.References {
			name, services := s.Name, strings.Join(s.Services, ", ")
			if i > 0 {
				name, services = "", ""
			}
			version := s.Versions[i]
			if version == "" {
				version = "not locked"
			}
			fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", name, r, version, services)
		}
	}
	return out.Flush()
}

func (p *program) secretsPlan() *cli.Command {
	return &cli.Command{
		Name:  "plan",
		Usage: "Show what sync would do",
		Description: "Asks the store for versions, not for values, and the Swarm for what it has. Nothing is changed.\n\n" +
			"Examples:\n   skep secrets plan\n   skep secrets plan --detailed-exitcode   # 4 when sync would change something",
		Flags: []cli.Flag{
			jsonFlag(), secretsTimeout(),
			&cli.BoolFlag{Name: "detailed-exitcode", Usage: "exit with 4 when there are changes"},
		},
		Action: func(c *cli.Context) error {
			return p.withSyncer(c, func(ctx context.Context, project *secretProject, s *secretsync.Syncer, _ *swarm.Client) error {
				plan, err := s.Plan(ctx, project)
				if err != nil {
					return err
				}
				if err := p.printSecrets(c, project, plan, planned); err != nil {
					return err
				}
				if err := missing(plan); err != nil {
					return err
				}
				if c.Bool("detailed-exitcode") && plan.Changes() {
					return &failure{code: exitPending}
				}
				return nil
			})
		},
	}
}

func (p *program) secretsSync() *cli.Command {
	return &cli.Command{
		Name:  "sync",
		Usage: "Create what is missing, lock the versions, prune what nobody needs",
		Description: "Creates a secret for each new version, writes " + spec.SecretsLock + ", and removes the versions that no service, no\n" +
			"rollback of Swarm's and no kept revision mounts. `skep deploy` then updates the services whose versions\n" +
			"changed, and no others. A store that cannot be reached fails only what is not in the Swarm yet.\n" +
			"References that nothing names any more leave the lock, and are listed.\n\n" +
			"Examples:\n   skep secrets sync\n   skep secrets sync --no-prune --json",
		Flags: []cli.Flag{jsonFlag(), noPruneFlag(), secretsTimeout()},
		Action: func(c *cli.Context) error {
			return p.withSyncer(c, func(ctx context.Context, project *secretProject, s *secretsync.Syncer, _ *swarm.Client) error {
				plan, err := s.Plan(ctx, project)
				if err != nil {
					return err
				}
				done, err := s.Apply(ctx, project, plan, !c.Bool("no-prune"))
				if printed := p.printSecrets(c, project, done, synced); err == nil {
					err = printed
				}
				if err != nil {
					return err
				}
				return missing(done)
			})
		},
	}
}

func (p *program) secretsWatch() *cli.Command {
	return &cli.Command{
		Name:  "watch",
		Usage: "Sync and deploy whenever an item changes",
		Description: "Asks the store again and again. When an item has a new version it is synced, and the stacks that use it\n" +
			"are deployed, health-gated as ever; a deploy that fails is tried again after a growing pause. A store, a\n" +
			"Swarm or a project that is away is waited for. Ends with an interrupt.\n\n" +
			"Examples:\n   skep secrets watch\n   skep secrets watch --interval 10s --json",
		Flags: []cli.Flag{
			jsonFlag(), noPruneFlag(),
			&cli.DurationFlag{Name: "interval", Value: 20 * time.Second, Usage: "pause between two looks at the store"},
			&cli.DurationFlag{Name: "timeout", Value: 10 * time.Minute, Usage: "how long a service may take to come up"},
		},
		Action: func(c *cli.Context) error {
			if c.Duration("interval") <= 0 {
				return usage("--interval %s", c.Duration("interval")).because("it must be longer than nothing")
			}
			return p.withSyncer(c, func(ctx context.Context, _ *secretProject, s *secretsync.Syncer, engine *swarm.Client) error {
				var handler slog.Handler = slog.NewTextHandler(p.stdout, nil)
				if c.Bool("json") {
					handler = slog.NewJSONHandler(p.stdout, nil)
				}
				log := slog.New(handler)
				w := &secretsync.Watcher{
					Syncer: s, Deployer: &rotation{c: c, engine: engine, report: logged(log)}, Interval: c.Duration("interval"), Prune: !c.Bool("no-prune"),
					Open: func(context.Context) (secretsync.Project, error) { return p.openSecrets(c) },
					Log:  log,
				}
				return w.Run(ctx)
			})
		},
	}
}

// logged logs what of a deploy went wrong.
func logged(log *slog.Logger) func(deploy.Event) {
	return func(e deploy.Event) {
		switch e.Verb {
		case deploy.Failed, deploy.Restored, deploy.Warned:
			log.Warn("deploy", "stack", e.Stack, "event", e.Verb, "of", e.Subject, "text", e.Text)
		}
	}
}

// missing fails when the Swarm lacks a secret that the bundle expects. One that
// is there and could not be looked at is no failure: what runs goes on.
func missing(plan secretsync.Plan) error {
	n := len(plan.Of(secretsync.Failed))
	if n == 0 {
		return nil
	}
	return failed(fmt.Errorf("%d of %d secrets cannot be made", n, len(plan.Of(secretsync.Create, secretsync.Replace, secretsync.Keep, secretsync.Failed)))).
		because("the others are not held up; the lines above say why")
}

// secretReport is what --json says.
type secretReport struct {
	Lock    string              `json:"lock"`
	Locked  secrets.Lock        `json:"locked"` // what is in it
	Actions []secretsync.Action `json:"actions"`
	Dropped []secrets.Reference `json:"dropped"` // from the lock
	Changes bool                `json:"changes"`
}

// tense is how the counts are put.
type tense map[secretsync.Kind]string

var (
	planned = tense{secretsync.Create: "to create", secretsync.Replace: "to replace", secretsync.Keep: "unchanged", secretsync.Used: "old but in use", secretsync.Prune: "to prune", secretsync.Failed: "failed"}
	synced  = tense{secretsync.Create: "created", secretsync.Replace: "replaced", secretsync.Keep: "unchanged", secretsync.Used: "old but in use", secretsync.Prune: "pruned", secretsync.Failed: "failed"}
)

func (p *program) printSecrets(c *cli.Context, project *secretProject, plan secretsync.Plan, t tense) error {
	if c.Bool("json") {
		return p.writeJSON(secretReport{
			Lock: project.path(spec.SecretsLock), Locked: plan.Lock, Actions: append([]secretsync.Action{}, plan.Actions...),
			Dropped: append([]secrets.Reference{}, plan.Dropped...), Changes: plan.Changes(),
		})
	}
	paint := problem.Paint{On: colored(p.stdout)}
	marks := map[secretsync.Kind]string{
		secretsync.Create: paint.Green("create "), secretsync.Replace: paint.Yellow("replace"),
		secretsync.Prune: paint.Red("prune  "), secretsync.Failed: paint.Red("failed "), secretsync.Keep: paint.Yellow("keep   "),
	}
	for _, a := range plan.Actions {
		mark, ok := marks[a.Kind]
		if !ok || a.Kind == secretsync.Keep && a.Why == "" {
			continue
		}
		line := fmt.Sprintf("%s  %s", mark, a.Name)
		if a.Replaces != "" {
			line += ", after " + a.Replaces
		}
		if a.Why != "" {
			line += ": " + problem.Printable(strings.ReplaceAll(a.Why, "\n", "; "))
		}
		if _, err := fmt.Fprintln(p.stdout, line); err != nil {
			return err
		}
	}
	for _, r := range plan.Dropped {
		if _, err := fmt.Fprintf(p.stdout, "%s  %s from %s: nothing that was read names it\n", paint.Red("drop   "), r, spec.SecretsLock); err != nil {
			return err
		}
	}
	var counts []string
	for _, k := range []secretsync.Kind{secretsync.Create, secretsync.Replace, secretsync.Keep, secretsync.Used, secretsync.Prune, secretsync.Failed} {
		if n := len(plan.Of(k)); n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, t[k]))
		}
	}
	if len(counts) == 0 {
		counts = []string{"the project has no references"}
	}
	if _, err := fmt.Fprintf(p.stdout, "Secrets: %s.\n", strings.Join(counts, ", ")); err != nil {
		return err
	}
	if len(plan.Dropped) > 0 && len(c.StringSlice("profile")) == 0 {
		_, err := fmt.Fprintln(p.stdout, "A service under a profile is read with --profile alone: give the same profiles every time.")
		return err
	}
	return nil
}

// withSyncer gives f what a sync needs. The time limit is that of --timeout,
// which means something else to watch.
func (p *program) withSyncer(c *cli.Context, f func(context.Context, *secretProject, *secretsync.Syncer, *swarm.Client) error) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if err := secrets.NoCoreDumps(); err != nil {
		return fmt.Errorf("turn core dumps off: %w", err)
	}
	project, err := p.secretProject(c)
	if err != nil {
		return err
	}
	var source secrets.Source
	if needed, err := needsSource(c, project); err != nil {
		return err
	} else if needed {
		opened, stop, err := secretSource(project)
		if err != nil {
			return err
		}
		defer stop()
		source = opened
	}
	return withSwarm(func(engine *swarm.Client) error {
		ctx := c.Context
		if c.Command.Name != "watch" && c.Command.Name != "rotate" { // their time limits are those of services
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, c.Duration("timeout"), errSlow)
			defer cancel()
		}
		store := project.cluster.Secrets
		return f(ctx, project, &secretsync.Syncer{
			Source: source, Swarm: secretEngine{engine},
			Options: secretsync.Options{Cluster: project.cluster.Name, Mode: secretsync.Mode(store.Mode), Driver: store.Driver},
		}, engine)
	})
}

// needsSource reports whether there is anything to ask a store. watch wants
// one from the start, for what the project may say later.
func needsSource(c *cli.Context, project *secretProject) (bool, error) {
	if c.Command.Name == "watch" {
		return true, nil
	}
	wanted, err := project.Secrets(project.Lock())
	return len(secretsync.References(wanted)) > 0, err
}

var errSlow = errors.New("the store or the Swarm took longer than --timeout")

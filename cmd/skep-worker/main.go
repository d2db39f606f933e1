// Command skep-worker does the runs of the control plane: it takes them from
// the workflow engine, has skep check, plan and deploy in jobs, and reports.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"

	"skep/secrets"
	"skep/secrets/onepassword"
	"skep/services/controlplane"
	"skep/services/controlplane/child"
	"skep/services/controlplane/engine"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/store"
	"skep/services/controlplane/tracing"
	"skep/services/worker"
)

// version is set by the Makefile.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

const usage = `Does the runs of the control plane. skep-server starts one by itself; run more where one is not enough.

Usage: skep-worker [-classes LIST] [-slots N]

Its settings come from the environment. A variable that ends in _FILE names a file with the value:

  SKEP_DATABASE_URL      PostgreSQL, as skep-server has it
  SKEP_DATABASE_KEY      the key of the secrets in it
  SKEP_HATCHET_ADDRESS   host:port of the workflow engine
  SKEP_HATCHET_TOKEN     its token
  SKEP_HATCHET_TLS       on for TLS, off for plain text in a network of the stack's own (default)
  SKEP_URL               address of the control plane, for links
  SKEP_LOOPBACK          on lets integrations speak to this machine without TLS: for a demonstration
  SKEP_JOB_IMAGE         image with /skep and /skep-job: jobs run on the Swarm in it. Without it they are processes
                         of this machine, which sees nothing of it but their tree
  SKEP_JOB_NETWORKS      networks of jobs that reach the Swarm: the docker proxy's, Connect's
  SKEP_JOB_DOCKER_HOST   docker proxy of jobs that plan and deploy, tcp://job-docker-proxy:2375. Without it they get
                         DOCKER_HOST; with it that one needs no more than what starts jobs
  SKEP_TASK_NETWORKS     networks of tasks with an image of their own; none without it
  SKEP_NPM_REGISTRY      URL of an npm registry in the Swarm, for npm in tasks with an image of their own
  SKEP_NPM_NETWORK       internal network that it is on, where these tasks reach it and each other
  SKEP_JOB_CONSTRAINTS   of the nodes that take jobs, node.labels.jobs==yes
  SKEP_WORKER_METRICS_LISTEN  address of /metrics, 127.0.0.1:9091; none without it
  SKEP_LOCAL_COMMANDS    paths of static binaries that tasks may run where jobs are processes
  DOCKER_HOST            of the Swarm; OP_CONNECT_HOST, OP_CONNECT_TOKEN_FILE for its secrets
  OTEL_EXPORTER_OTLP_ENDPOINT  collector of traces, http://collector:4318; none without it. The other OTEL_ variables too

Example:

  SKEP_DATABASE_URL_FILE=/run/secrets/database SKEP_DATABASE_KEY_FILE=/run/secrets/key \
    SKEP_HATCHET_ADDRESS=hatchet-engine:7070 SKEP_HATCHET_TOKEN_FILE=/run/secrets/hatchet \
    skep-worker -classes critical -slots 2

Exit codes: 0 done, 1 failed, 2 usage.

`

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("skep-worker", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	classes := flags.String("classes", "critical,normal,batch", "priority classes of runs to take")
	slots := flags.Int("slots", 4, "runs at once")
	skep := flags.String("skep", "", "path of the skep binary that jobs run (default: beside this one)")
	isChild := flags.Bool("child", false, "take the settings from standard input, and end with it")
	ask := flags.Bool("healthcheck", false, "ask whether a worker with these settings can work, and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0 || *slots < 1:
		flags.Usage()
		return 2
	}
	log := slog.New(tracing.LogHandler(slog.NewJSONHandler(stderr, nil)))
	settings := settings(os.LookupEnv)
	if *isChild {
		var given map[string]string
		var err error
		if ctx, err = child.Config(ctx, stdin, &given); err != nil {
			log.Error("stopped", "error", err)
			return 1
		}
		settings = func(name string) (string, bool) { v, ok := given[name]; return v, ok }
	}
	if *ask {
		if err := health(ctx, settings); err != nil {
			fmt.Fprintf(stderr, "skep-worker: %v\n", err)
			return 1
		}
		return 0
	}
	if err := serve(ctx, settings, *classes, *slots, *skep, stdout, log); err != nil {
		log.Error("stopped", "error", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, get settings, classes string, slots int, skep string, ready io.Writer, log *slog.Logger) (err error) {
	if err := secrets.NoCoreDumps(); err != nil {
		return fmt.Errorf("turn core dumps off: %w", err)
	}
	traces, err := tracing.Start(ctx, "skep-worker", version, log)
	if err != nil {
		return err
	}
	defer traces.Stop(ctx)
	remove, err := scratch(log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	var take []controlplane.Priority
	for c := range strings.SplitSeq(classes, ",") {
		p, err := controlplane.ParsePriority(strings.TrimSpace(c))
		if err != nil {
			return err
		}
		take = append(take, p)
	}
	address, err := engine.AddressFrom(get)
	if err != nil {
		return err
	}
	url, key, err := get.database()
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, url, key)
	if err != nil {
		return err
	}
	defer db.Close()
	db.Log = log
	queues, err := store.OpenQueues(ctx, url, slots)
	if err != nil {
		return err
	}
	defer queues.Close()
	queues.Log = log
	e, err := engine.Open(address, log)
	if err != nil {
		return err
	}
	defer e.Close(context.WithoutCancel(ctx))
	environment, files, err := get.swarm()
	if err != nil {
		return err
	}
	link, _ := get("SKEP_URL")
	loopback, _ := get("SKEP_LOOPBACK")
	counts, unmeasure, err := get.metrics(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unmeasure()) }()
	jobs, background, err := get.launcher(skep, db, counts, log)
	if err != nil {
		return err
	}
	source, err := onepassword.FromEnvironment(get, "skep-worker/"+version)
	if err != nil {
		return err
	}
	hold := credentials{db, source}
	w := &worker.Worker{
		Store: db, Previews: db, Tasks: db, Credentials: hold, Starter: engine.Starter{Runs: db, Engine: e},
		Forges: newForges(db, hold, integration.Options{Log: log, Loopback: loopback == "on"}), Launcher: jobs,
		Environment: environment, Secrets: files, URL: link, Metrics: counts, Log: log,
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	beyond, stop := context.WithCancel(context.WithoutCancel(ctx)) // for as long as there are runs
	swept := make(chan error, 1)
	go func() { swept <- background(beyond) }()
	defer func() {
		stop()
		err = errors.Join(err, <-swept)
	}()
	fmt.Fprintln(ready, "{}")
	// Without its server a child has no engine that would hear of an end, and
	// another worker takes its runs: it gives them up.
	parent := ctx
	handle := func(ctx context.Context, id controlplane.RunID, last bool) error {
		ctx, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		defer context.AfterFunc(parent, func() {
			if cause := context.Cause(parent); errors.Is(cause, child.ErrOrphan) {
				stop(cause)
			}
		})()
		return w.Handle(ctx, id, last)
	}
	return e.Work(ctx, engine.Worker{
		Name: host + "-" + strconv.Itoa(os.Getpid()), Classes: take, Slots: slots, Grace: 5 * time.Minute, Queues: queues, Handle: handle,
	})
}

// settings are looked up by name.
type settings func(name string) (string, bool)

// secret is a setting, or what the file holds that name_FILE names.
func (get settings) secret(name string) (string, error) {
	if v, ok := get(name); ok && v != "" {
		return v, nil
	}
	file, ok := get(name + "_FILE")
	if !ok || file == "" {
		return "", fmt.Errorf("%s is not set, nor is %[1]s_FILE", name)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read %s_FILE: %w", name, err)
	}
	return strings.TrimSpace(string(content)), nil
}

func (get settings) database() (url string, keys store.Keys, err error) {
	url, err = get.secret("SKEP_DATABASE_URL")
	key, e := get.secret("SKEP_DATABASE_KEY")
	if err := errors.Join(err, e); err != nil {
		return "", store.Keys{}, err
	}
	keys, err = store.ParseKeys([]byte(key))
	return url, keys, err
}

// swarm is what jobs get that may reach the Swarm, and its secrets.
func (get settings) swarm() (environment map[string]string, files map[string]secrets.Value, err error) {
	environment = map[string]string{}
	for _, name := range []string{"DOCKER_HOST", "DOCKER_TLS_VERIFY", "OP_CONNECT_HOST"} {
		if v, ok := get(name); ok && v != "" {
			environment[name] = v
		}
	}
	if environment["DOCKER_HOST"] == "" {
		environment["DOCKER_HOST"] = "unix:///var/run/docker.sock" // docker's own default
	}
	if own, ok := get("SKEP_JOB_DOCKER_HOST"); ok && own != "" {
		if _, err := client.ParseHostURL(own); err != nil {
			return nil, nil, fmt.Errorf("SKEP_JOB_DOCKER_HOST is %q: write it as DOCKER_HOST, tcp://job-docker-proxy:2375: %w", own, err)
		}
		environment["DOCKER_HOST"] = own
		delete(environment, "DOCKER_TLS_VERIFY") // which is about the worker's own
	}
	if environment["OP_CONNECT_HOST"] == "" {
		return environment, nil, nil
	}
	token, err := get.secret("OP_CONNECT_TOKEN")
	if err != nil {
		return nil, nil, err
	}
	environment["OP_CONNECT_TOKEN_FILE"] = "/run/secrets/op-connect-token"
	return environment, map[string]secrets.Value{"op-connect-token": secrets.NewValue([]byte(token))}, nil
}

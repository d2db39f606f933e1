// Command skep-dns keeps DNS true to the labels of a Swarm: it sends records to
// the providers of zones, or serves zones itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/docker/docker/client"

	"skep/networks"
	"skep/services/dns"
	"skep/services/dns/labels"
	"skep/services/dns/providers"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

const usage = `Keeps DNS true to the labels of a Swarm's services.

Usage: skep-dns sync [flags]         send records to the zones' providers
       skep-dns serve [flags]        serve zones of provider skep to private clients
       skep-dns healthcheck [flags]  ask the running one for /healthz, and exit

  DOCKER_HOST=tcp://proxy:2375  the Docker API: GET /services and /events
  CLOUDFLARE_API_TOKEN, CLOUDFLARE_ACCOUNT_ID (of a tunnel), UNIFI_URL, UNIFI_API_KEY, RFC2136_SERVER, RFC2136_TSIG_NAME, RFC2136_TSIG_SECRET,
  SKEP_DNS_TSIG_NAME, SKEP_DNS_TSIG_SECRET (of transfers to secondaries); NAME_FILE names a file instead

Example: skep-dns serve -zones dns.yaml -listen :53 -secondary 10.0.0.12:53

`

// program is one run of the command.
type program struct {
	log    *slog.Logger
	stdout io.Writer
	get    providers.Settings
}

// options are all flags; each command takes its own.
type options struct {
	zones  string
	http   string
	grace  time.Duration
	resync time.Duration

	once, dryRun bool
	share        float64
	origin       string

	listen      string
	state       string
	allow       list
	secondaries list
	nameServers list
}

// list is a flag that may be repeated.
type list []string

func (l *list) String() string { return fmt.Sprint([]string(*l)) }

func (l *list) Set(s string) error {
	*l = append(*l, s)
	return nil
}

func run(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	var o options
	flags := flag.NewFlagSet("skep-dns", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	commands := map[string]func(*program, context.Context, options) error{
		"sync": (*program).sync, "serve": (*program).serve, "healthcheck": (*program).healthcheck,
	}
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	command, ok := commands[name]
	if !ok {
		flags.Usage()
		if name == "-h" || name == "-help" || name == "--help" {
			return exitDone
		}
		return exitUsage
	}
	o.define(flags, name)
	switch err := flags.Parse(args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		return exitDone
	case err != nil:
		return exitUsage
	case flags.NArg() > 0:
		flags.Usage()
		return exitUsage
	}
	if err := o.check(name); err != nil {
		fmt.Fprintf(stderr, "%v\n\n", err)
		flags.Usage()
		return exitUsage
	}
	p := &program{log: slog.New(slog.NewJSONHandler(stderr, nil)), stdout: stdout, get: providers.FromEnv(os.LookupEnv)}
	if err := command(p, ctx, o); err != nil {
		args := []any{"error", err}
		var missing *providers.Missing
		if errors.As(err, &missing) {
			args = append(args, "remedy", fmt.Sprintf("set %s, or %s_FILE to a file that holds it", missing.Name, missing.Name))
		}
		p.log.Error("stopped", args...)
		return exitFailed
	}
	return exitDone
}

func (o *options) define(f *flag.FlagSet, command string) {
	f.StringVar(&o.http, "http", ":9153", "`address` of /healthz, /metrics and /status")
	if command == "healthcheck" {
		return
	}
	f.StringVar(&o.zones, "zones", "/etc/skep/dns.yaml", "`file` of the zones, as the bundle's cluster/dns.yaml")
	f.DurationVar(&o.grace, "grace", dns.DefaultGrace, "how long a record stays after nothing wants it any more")
	f.DurationVar(&o.resync, "resync", 5*time.Minute, "look again after so long without an event")
	if command == "sync" {
		f.BoolVar(&o.once, "once", false, "sync once and print the plans as JSON")
		f.BoolVar(&o.dryRun, "dry-run", false, "change nothing")
		f.StringVar(&o.origin, "tunnel-origin", "", "`URL` of the ingress as cloudflared reaches it, https://ingress_caddy: syncs the rules of a remotely managed tunnel too")
		f.Float64Var(&o.share, "max-removals", dns.DefaultShare, "part of the cluster's records in a zone that may begin to go at once")
		return
	}
	f.StringVar(&o.listen, "listen", ":53", "`address` for DNS")
	f.StringVar(&o.state, "state", "", "`folder` that keeps the zones over a restart")
	f.Var(&o.allow, "allow", "`network` whose clients get answers, instead of the private ones; may be repeated")
	f.Var(&o.secondaries, "secondary", "`host:port` of a secondary that is told of changes; may be repeated")
	f.Var(&o.nameServers, "name-server", "`host` name of a server of the zones, the primary first; may be repeated")
}

func (o *options) check(command string) error {
	switch {
	case command == "healthcheck":
		return nil
	case o.resync < time.Second:
		return errors.New("-resync is at least 1s")
	case o.grace < 0:
		return errors.New("-grace is not negative")
	case o.origin == "":
		return nil
	case o.once:
		return errors.New("-once does not sync a tunnel: `skep tunnel sync` does")
	}
	return checkOrigin(o.origin)
}

// load reads the zones file.
func load(path string) (networks.DNS, dns.Cluster, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return networks.DNS{}, "", err
	}
	d, err := networks.ParseDNS(content)
	if err != nil {
		return networks.DNS{}, "", fmt.Errorf("%s: %w", path, err)
	}
	cluster, err := dns.ParseCluster(d.Cluster)
	if err != nil {
		return networks.DNS{}, "", fmt.Errorf("%s: %w", path, err)
	}
	return d, cluster, nil
}

// watcher follows the Swarm that DOCKER_HOST names.
func (p *program) watcher(o options) (*labels.Watcher, func() error, error) {
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, nil, err
	}
	return &labels.Watcher{Docker: docker, Log: p.log, Resync: o.resync, Settle: 200 * time.Millisecond}, docker.Close, nil
}

// healthcheck asks the one that runs here.
func (p *program) healthcheck(ctx context.Context, o options) error {
	host, port, err := net.SplitHostPort(o.http)
	if err != nil {
		return fmt.Errorf("-http: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/healthz", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("/healthz answers %s", response.Status)
	}
	return nil
}

// Command skep-secretdriver gives a Swarm's tasks their secrets from 1Password
// Connect, as a plugin of the managers' engines.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"skep/secrets"
	"skep/secrets/onepassword"
	"skep/services/secretdriver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

const usage = `Gives the tasks of a Swarm their secrets from 1Password Connect. It runs on every manager.

Usage: skep-secretdriver [-listen SOCKET] -policy FILE|labels
       skep-secretdriver -plugin FOLDER

Each flag may come from the environment too. Beside them:

  OP_CONNECT_HOST        address of Connect, http://10.0.0.5:8080
  OP_CONNECT_TOKEN_FILE  file with the access token, or
  OP_CONNECT_TOKEN       the token itself

Example, as a socket plugin:

  OP_CONNECT_HOST=http://127.0.0.1:8080 OP_CONNECT_TOKEN_FILE=/etc/skep/op-connect-token \
    skep-secretdriver -policy /etc/skep/policy.yaml

Example, as a managed plugin, which reads token and policy from /etc/skep:

  skep-secretdriver -plugin ./plugin
  docker plugin create skep ./plugin
  docker plugin set skep OP_CONNECT_HOST=http://127.0.0.1:8080
  docker plugin enable skep

Exit codes: 0 done, 1 failed, 2 usage.

`

type settings struct {
	listen, policy, log, plugin string
	timeout, cache              time.Duration
}

func run(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("skep-secretdriver", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	var s settings
	flags.StringVar(&s.listen, "listen", "/run/docker/plugins/skep.sock", "socket; its name is the driver's (LISTEN)")
	flags.StringVar(&s.policy, "policy", "", "file that says which service may have what, or labels: those of service and secret decide alone (POLICY)")
	flags.StringVar(&s.log, "log", "", "file that the log is added to, beside standard error (LOG)")
	flags.DurationVar(&s.timeout, "timeout", secretdriver.DefaultTimeout, "for one secret; Swarm gives up after 15s (TIMEOUT)")
	flags.DurationVar(&s.cache, "cache", 0, "how long a value is kept in memory for the time that Connect is away; 0 for never (CACHE)")
	flags.StringVar(&s.plugin, "plugin", "", "write a folder for docker plugin create, and exit")
	err := fromEnvironment(flags)
	if err == nil {
		err = flags.Parse(args)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil, flags.NArg() > 0:
		if err == nil {
			flags.Usage()
		}
		return 2
	}
	if s.plugin != "" {
		if err := writePlugin(s.plugin); err != nil {
			fmt.Fprintf(stderr, "skep-secretdriver: write the plugin: %v\n", err)
			return 1
		}
		fmt.Fprintf(stdout, "%s: docker plugin create skep %[1]s\n", s.plugin)
		return 0
	}
	if err := serve(ctx, s, stderr); err != nil {
		slog.New(slog.NewJSONHandler(stderr, nil)).Error("stopped", "error", err.Error())
		return 1
	}
	return 0
}

// fromEnvironment sets flags from variables; the command line goes before.
func fromEnvironment(flags *flag.FlagSet) error {
	for name, variable := range map[string]string{"listen": "LISTEN", "policy": "POLICY", "log": "LOG", "timeout": "TIMEOUT", "cache": "CACHE"} {
		if value := os.Getenv(variable); value != "" {
			if err := flags.Set(name, value); err != nil {
				fmt.Fprintf(flags.Output(), "read %s: %v\n", variable, err)
				return err
			}
		}
	}
	return nil
}

func serve(ctx context.Context, s settings, stderr io.Writer) error {
	if err := secrets.NoCoreDumps(); err != nil {
		return fmt.Errorf("turn core dumps off: %w", err)
	}
	log, closeLog, err := openLog(s.log, stderr)
	if err != nil {
		return err
	}
	defer closeLog()
	driver, closeDriver, err := open(s, log)
	if err != nil {
		return err
	}
	defer closeDriver()
	l, err := listen(ctx, s.listen)
	if err != nil {
		return err
	}
	log.Info("listening", "socket", s.listen, "policy", s.policy, "timeout", s.timeout.String(), "cache", s.cache.String())
	return driver.Serve(ctx, l)
}

func openLog(file string, stderr io.Writer) (*slog.Logger, func(), error) {
	if file == "" {
		return slog.New(slog.NewJSONHandler(stderr, nil)), func() {}, nil
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open the log: %w", err)
	}
	return slog.New(slog.NewJSONHandler(io.MultiWriter(stderr, f), nil)), func() { f.Close() }, nil
}

// longestTimeout leaves something of the 15 seconds of Swarm for the rest.
const longestTimeout = 12 * time.Second

func open(s settings, log *slog.Logger) (*secretdriver.Driver, func(), error) {
	if s.timeout <= 0 || s.timeout > longestTimeout {
		return nil, nil, fmt.Errorf("the timeout is %s: Swarm gives up after 15s, give at most %s", s.timeout, longestTimeout)
	}
	policy, err := readPolicy(s.policy)
	if err != nil {
		return nil, nil, err
	}
	token, err := onepassword.TokenFrom(os.LookupEnv)
	if err != nil {
		return nil, nil, err
	}
	host := os.Getenv("OP_CONNECT_HOST")
	if host == "" {
		return nil, nil, errors.New("OP_CONNECT_HOST is not set: it is the address of 1Password Connect")
	}
	client, err := onepassword.New(host, token, onepassword.Config{
		Tries: 3, RequestTimeout: s.timeout / 2, UserAgent: "skep-secretdriver",
	})
	if err != nil {
		return nil, nil, err
	}
	d := &secretdriver.Driver{Source: client, Policy: policy, Timeout: s.timeout, Log: log}
	if s.cache > 0 {
		d.Cache = secretdriver.NewCache(s.cache)
	}
	return d, func() {
		client.Close()
		if d.Cache != nil {
			d.Cache.Close()
		}
	}, nil
}

func readPolicy(name string) (secretdriver.Policy, error) {
	switch name {
	case "":
		return secretdriver.Policy{}, errors.New("there is no policy: -policy FILE, or -policy labels to let labels alone decide")
	case "labels":
		return secretdriver.LabelsOnly(), nil
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return secretdriver.Policy{}, fmt.Errorf("read the policy: %w", err)
	}
	return secretdriver.ParsePolicy(content)
}

// listen opens the socket, which only root may use.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := removeDead(ctx, path); err != nil {
		return nil, err
	}
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	return (&net.ListenConfig{}).Listen(ctx, "unix", path)
}

// removeDead removes a socket that a driver left when it was killed. Anything
// else that is there stays: it is somebody's.
func removeDead(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is no socket: give -listen another path", path)
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("another driver listens on %s: stop it, or give -listen another path", path)
	case !errors.Is(err, syscall.ECONNREFUSED): // which says that nobody listens
		return fmt.Errorf("whether somebody uses %s cannot be told, remove it if nobody does: %w", path, err)
	}
	return os.Remove(path)
}

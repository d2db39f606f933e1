// Command fakegithub stands in for GitHub in demonstrations: the real one
// cannot reach a laptop.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/integration/github/githubtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

const usage = `Stands in for GitHub, for demonstrations and tests: one repository, which is a folder that Git
pushes to, a webhook that hears of pushes, and the statuses that come back, which are printed.

Usage: fakegithub -folder DIR -repository OWNER/NAME [-listen ADDRESS] -hook URL

The token that the API wants is in FAKEGITHUB_TOKEN, the webhook's secret in FAKEGITHUB_SECRET.

Example:

  FAKEGITHUB_TOKEN=demo FAKEGITHUB_SECRET=0123456789abcdef fakegithub -folder /tmp/hub -repository acme/homelab \
    -hook http://127.0.0.1:8080/api/v1/webhooks/github
  git push /tmp/hub/acme/homelab.git main

`

// look is how often the repository is looked at.
const look = 300 * time.Millisecond

func run(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("fakegithub", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	listen := flags.String("listen", "127.0.0.1:8090", "`address` of the API")
	folder := flags.String("folder", "", "where repositories are kept")
	name := flags.String("repository", "", "`owner/name` of the one that there is")
	hook := flags.String("hook", "", "`URL` that hears of pushes")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	token, secret := os.Getenv("FAKEGITHUB_TOKEN"), os.Getenv("FAKEGITHUB_SECRET")
	repository, err := controlplane.ParseRepository(*name)
	if err != nil || flags.NArg() > 0 || *folder == "" || *hook == "" || token == "" || secret == "" {
		flags.Usage()
		return 2
	}
	if err := serve(ctx, *listen, *folder, repository, *hook, token, secret, stdout); err != nil {
		fmt.Fprintf(stderr, "fakegithub: %v\n", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, listen, folder string, repository controlplane.Repository, hook, token, secret string, stdout io.Writer) (err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	author, _, _ := strings.Cut(string(repository), "/")
	hub, err := githubtest.Start(ctx, githubtest.Options{Folder: folder, Address: listen, User: &githubtest.User{Login: author, Token: token}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hub.Close()) }()
	if err := hub.CreateRepository(ctx, repository); err != nil {
		return err
	}
	path, err := filepath.Abs(hub.Path(repository))
	if err != nil {
		return err
	}
	if err := hub.Hook(ctx, repository, hook, secret); err != nil {
		return fmt.Errorf("call the webhook: %w", err)
	}
	fmt.Fprintf(stdout, "The API is at %s, the repository is %s.\n", hub.URL(), path)
	tick := time.NewTicker(look)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := hub.Sync(ctx, repository, author); err != nil && ctx.Err() == nil {
			fmt.Fprintf(stdout, "The webhook was not taken: %v\n", err)
		}
		head, err := exec.CommandContext(ctx, "git", "-C", path, "rev-parse", "-q", "--verify", "main").Output()
		commit, bad := controlplane.ParseCommit(strings.TrimSpace(string(head)))
		if err != nil || bad != nil { // nothing was pushed yet
			continue
		}
		for _, r := range hub.Reports(repository, commit) {
			if line := fmt.Sprintf("%.8s %s: %s, %s\n", commit, r.Name, r.State, r.Title); line != said {
				said = line
				fmt.Fprint(stdout, line)
			}
		}
	}
}

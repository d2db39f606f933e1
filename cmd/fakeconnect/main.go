// Command fakeconnect stands in for a 1Password Connect server in
// demonstrations: the real one needs an account.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/1Password/connect-sdk-go/onepassword"

	"skep/secrets/agefile"
	connect "skep/secrets/onepassword"
	"skep/secrets/secretstest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

const usage = `Stands in for a 1Password Connect server. For demonstrations and tests: it keeps what it gives
away in a plain file. A changed file is read again.

Usage: fakeconnect [-listen ADDRESS] -items FILE

The access token is in OP_CONNECT_TOKEN, or in the file that OP_CONNECT_TOKEN_FILE names. FILE is YAML:

  homelab:                          # vault
    postgres:                       # item
      version: 1
      fields: {password: hunter2, admin/email: root@example.com}

Example: OP_CONNECT_TOKEN=demo fakeconnect -items items.yaml

`

func run(ctx context.Context, args []string, _ io.Reader, _, stderr io.Writer) int {
	flags := flag.NewFlagSet("fakeconnect", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	listen := flags.String("listen", "127.0.0.1:8080", "address to listen on")
	items := flags.String("items", "", "file with vaults and items")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0, *items == "":
		flags.Usage()
		return 2
	}
	log := slog.New(slog.NewJSONHandler(stderr, nil))
	if err := serve(ctx, *listen, *items, log); err != nil {
		log.Error("stopped", "error", err.Error())
		return 1
	}
	return 0
}

func serve(ctx context.Context, listen, items string, log *slog.Logger) error {
	find, err := connect.TokenFrom(os.LookupEnv)
	if err != nil {
		return err
	}
	value, err := find()
	if err != nil {
		return err
	}
	token, err := value.Bytes()
	if err != nil {
		return err
	}
	f := &file{path: items, token: string(token), log: log}
	if _, err := f.load(); err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	log.Info("listening", "address", l.Addr().String())
	server := &http.Server{Handler: f, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { stopped <- server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// file answers with what a file holds now.
type file struct {
	path, token string
	log         *slog.Logger

	mu      sync.Mutex
	changed time.Time            // of the file when it was read; in an image it may be 1970
	current *secretstest.Connect // nil before the first read
}

func (f *file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	current, err := f.load()
	if err != nil {
		f.log.Error("the file is as it was before", "error", err.Error())
	}
	current.ServeHTTP(w, r)
}

// load answers with what the file holds, or held before it became unreadable:
// nil if it never could be read. A fault is reported once for each change.
func (f *file) load() (*secretstest.Connect, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err != nil {
		return f.current, err
	}
	if f.current != nil && info.ModTime().Equal(f.changed) {
		return f.current, nil
	}
	f.changed = info.ModTime()
	content, err := os.ReadFile(f.path)
	if err != nil {
		return f.current, err
	}
	vaults, err := agefile.Parse(content)
	if err != nil {
		return f.current, err
	}
	c := secretstest.NewConnect(f.token)
	for _, name := range slices.Sorted(maps.Keys(vaults)) {
		vault := c.Vault(name)
		for _, title := range slices.Sorted(maps.Keys(vaults[name])) {
			item := secretstest.NewItem(title, vaults[name][title].Fields)
			item.Version = vaults[name][title].Version
			item.Category = onepassword.Login
			c.Item(vault, item)
		}
	}
	f.current = c
	return c, nil
}

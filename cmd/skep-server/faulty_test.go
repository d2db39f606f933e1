package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"skep/internal/porttest"
	"skep/internal/postgrestest"
	"skep/internal/swarmtest"
	"skep/services/controlplane"
	"skep/services/controlplane/integration/github/githubtest"
	"skep/services/controlplane/store"
)

// faulty is a control plane without a Swarm: its jobs run a stub, which a test
// holds where it wants to. Folders of projects end in a suffix of the plane's,
// as jobs are found by their arguments.
type faulty struct {
	*plane
	database string
	tmp      string
	suffix   string
	holds    map[string]string       // commands that are held, by folder
	seen     map[string]map[int]bool // processes that were held, by folder
}

// newFaulty starts one. More of its environment is in env.
func newFaulty(t *testing.T, slots int, env ...string) *faulty {
	t.Helper()
	p := &plane{T: t, postgres: postgrestest.Start(t), bin: t.TempDir(), log: &log{}}
	for name, command := range map[string]string{
		"skep": "skep/cmd/skep-server/testdata/stub", "skep-worker": "skep/cmd/skep-worker", "skep-server": "skep/cmd/skep-server",
	} {
		// No symbolic link: a process looks for others beside the file that it is.
		if err := duplicate(swarmtest.Binary(t, command), filepath.Join(p.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	f := &faulty{plane: p, tmp: t.TempDir(), database: p.postgres.Database(t), holds: map[string]string{}, seen: map[string]map[int]bool{}}
	f.suffix = "-" + strings.ToLower(rand.Text()[:6])
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	p.address = porttest.Address(t)
	p.env = []string{
		"PATH=" + p.bin + ":/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + t.TempDir(), "TMPDIR=" + f.tmp,
		"SKEP_DATABASE_URL=" + f.database + "&pool_max_conns=8", "SKEP_DATABASE_KEY=" + hex.EncodeToString(key), "SKEP_HATCHET_DATABASE_URL=" + p.postgres.Database(t),
		"SKEP_LISTEN=" + p.address, "SKEP_LOOPBACK=on", "SKEP_WORKERS=" + strconv.Itoa(slots),
	}
	p.env = append(p.env, env...)
	p.command = p.local
	p.start()
	keys, err := store.ParseKeys([]byte(hex.EncodeToString(key)))
	if err != nil {
		t.Fatal(err)
	}
	if p.store, err = store.Open(t.Context(), f.database, keys); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.store.Close)
	p.register()
	if err := p.hub.Hook(t.Context(), "", "http://"+p.address+"/api/v1/webhooks/github", hookSecret); err != nil {
		t.Fatal(err)
	}
	return f
}

func duplicate(from, to string) error {
	if err := os.Link(from, to); err == nil {
		return nil
	}
	in, err := os.Open(from) // on another file system
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (f *faulty) folder(name string) string { return name + f.suffix }

func (f *faulty) repository(name string) controlplane.Repository {
	return controlplane.Repository("acme/" + f.folder(name))
}

// push makes a project whose pushes are deployed, and pushes. A command of its
// run is held, if hold names one. The delivery is sent until it is taken.
func (f *faulty) push(name, hold string) controlplane.Commit {
	f.Helper()
	folder := f.folder(name)
	if _, err := f.store.PutProject(f.Context(), controlplane.Project{
		Name: controlplane.Name(folder), Integration: "acme", Provider: controlplane.GitHub, Repository: f.repository(name), Folder: folder,
		Cluster: controlplane.Name(folder), Deploy: controlplane.DeployAlways,
	}); err != nil {
		f.Fatal(err)
	}
	if err := f.hub.CreateRepository(f.Context(), f.repository(name)); err != nil {
		f.Fatal(err)
	}
	f.holds[folder] = hold
	before := len(f.hub.Deliveries())
	c, err := f.hub.Push(f.Context(), f.repository(name), "main", "ann", map[string]githubtest.File{
		folder + "/cluster.yaml": {Content: "name: " + folder + "\n"}, folder + "/hold": {Content: hold},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.await("the delivery is taken", func() error {
		for _, d := range f.hub.Deliveries()[before:] {
			if d.Status == 200 {
				continue
			}
			if err := f.hub.Redeliver(f.Context(), d.ID); err != nil {
				return err
			}
			return fmt.Errorf("status %d, %v", d.Status, d.Err)
		}
		return nil
	})
	return c
}

// limit is for anything that is waited for: the engine looks for work of the
// dead, and for what it has to try again, twice a minute.
const limit = 3 * time.Minute

func (f *faulty) await(what string, done func() error) {
	f.Helper()
	if err := swarmtest.Poll(limit, done); err != nil {
		f.Fatalf("%s: %v", what, err)
	}
}

func (f *faulty) run(name string) (controlplane.Run, error) {
	runs, _, err := f.store.ListRuns(f.Context(), store.RunFilter{Project: controlplane.Name(f.folder(name))}, store.Page{})
	if err == nil && len(runs) != 1 {
		err = fmt.Errorf("%s has %d runs", name, len(runs))
	}
	if err != nil {
		return controlplane.Run{}, err
	}
	return runs[0], nil
}

// state is what a commit shows, if it is final and there is nothing else.
func (f *faulty) state(name string, c controlplane.Commit) error {
	reports := f.hub.Reports(f.repository(name), c)
	if len(reports) != 1 || reports[0].State != "success" || f.hub.Unfinished(f.repository(name), c) != 0 {
		return fmt.Errorf("%s has %+v", name, reports)
	}
	return nil
}

// awaitNone waits while there are fewer and fewer of what is stored.
func (f *faulty) awaitNone(what, query string) {
	f.Helper()
	left, moved := f.stored(query), time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for left > 0 {
		if time.Since(moved) > limit {
			f.Fatalf("%d %s, and none went in %v", left, what, limit)
		}
		<-tick.C
		if n := f.stored(query); n != left {
			left, moved = n, time.Now()
		}
	}
}

// end stops the server and looks for what it left.
func (f *faulty) end() {
	f.Helper()
	pid := f.server.Pid
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		f.Fatal(err)
	}
	f.gone(pid)
	for _, p := range f.processes() {
		f.Errorf("process %d is left: %q", p.pid, p.args)
	}
	left, err := os.ReadDir(f.tmp)
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range left {
		f.Errorf("%s is left", e.Name())
	}
	said := f.log.String()
	for _, secret := range []string{hookSecret, "PRIVATE KEY", "ghs_", f.postgres.Password(), strings.TrimPrefix(f.env[4], "SKEP_DATABASE_KEY=")} {
		if strings.Contains(said, secret) {
			f.Errorf("the log holds a secret: %.6s...", secret)
		}
	}
}

// stored counts rows of a query.
func (f *faulty) stored(query string) (n int) {
	f.Helper()
	conn, err := pgx.Connect(f.Context(), f.database)
	if err != nil {
		f.Fatal(err)
	}
	defer conn.Close(f.Context())
	if err := conn.QueryRow(f.Context(), "SELECT count(*) FROM skep."+query).Scan(&n); err != nil {
		f.Fatal(err)
	}
	return n
}

package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
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

func newFaulty(t *testing.T, slots int) *faulty {
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

// process is one of the plane's.
type process struct {
	pid  int
	args []string
}

// processes are the server, its children and their jobs.
func (f *faulty) processes() []process {
	f.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		f.Fatal(err)
	}
	var found []process
	for _, dir := range dirs {
		exe, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil {
			continue // it is gone, or nobody waited for it yet
		}
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		pid, e := strconv.Atoi(filepath.Base(dir))
		if err != nil || e != nil {
			continue
		}
		p := process{pid: pid, args: strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")}
		job := len(p.args) > 2 && p.args[1] == "-C" && strings.HasSuffix(p.args[2], f.suffix)
		if job || strings.HasPrefix(exe, f.bin+"/") {
			found = append(found, p)
		}
	}
	return found
}

// held are the jobs that wait to be let go.
func (f *faulty) held() map[string][]int {
	f.Helper()
	found := map[string][]int{}
	for _, p := range f.processes() {
		if len(p.args) < 4 || p.args[1] != "-C" || f.holds[p.args[2]] != p.args[3] {
			continue
		}
		folder := p.args[2]
		found[folder] = append(found[folder], p.pid)
		if f.seen[folder] == nil {
			f.seen[folder] = map[int]bool{}
		}
		f.seen[folder][p.pid] = true
	}
	return found
}

func (f *faulty) awaitHeld(name string) {
	f.Helper()
	f.await(name+" is held", func() error {
		if len(f.held()[f.folder(name)]) == 0 {
			return errors.New("there is no such job")
		}
		return nil
	})
}

// release lets jobs go on, all or one project's.
func (f *faulty) release(names ...string) {
	f.Helper()
	for folder, pids := range f.held() {
		if len(names) > 0 && !slices.ContainsFunc(names, func(n string) bool { return f.folder(n) == folder }) {
			continue
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGUSR1); err != nil && !errors.Is(err, syscall.ESRCH) {
				f.Fatal(err)
			}
		}
	}
}

// child is the process of the server's that has an argument.
func (f *faulty) child(arg string) int {
	f.Helper()
	for _, p := range f.processes() {
		if slices.Contains(p.args, arg) {
			return p.pid
		}
	}
	f.Fatalf("there is no process with %s", arg)
	return 0
}

func (f *faulty) kill(pid int) {
	f.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		f.Fatal(err)
	}
	f.gone(pid)
}

// gone waits for the end of a process.
func (f *faulty) gone(pid int) {
	f.Helper()
	f.await("the end of a process", func() error {
		if slices.ContainsFunc(f.processes(), func(p process) bool { return p.pid == pid }) {
			return fmt.Errorf("process %d is there", pid)
		}
		return nil
	})
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

// lock keeps a run's row, so that its result cannot be stored. Rows that refer
// to it can: log lines, effects.
type lock struct {
	f    *faulty
	conn *pgx.Conn
	tx   pgx.Tx
}

func (f *faulty) lock(name string) *lock {
	f.Helper()
	r, err := f.run(name)
	if err != nil {
		f.Fatal(err)
	}
	l := &lock{f: f}
	if l.conn, err = pgx.Connect(f.Context(), f.database); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = l.conn.Close(f.Context()) }) // closed already, in most tests
	if l.tx, err = l.conn.Begin(f.Context()); err != nil {
		f.Fatal(err)
	}
	if _, err := l.tx.Exec(f.Context(), "SELECT FROM skep.run WHERE id = $1 FOR NO KEY UPDATE", string(r.ID)); err != nil {
		f.Fatal(err)
	}
	return l
}

const blocked = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

// await waits until somebody wants the row.
func (l *lock) await() {
	l.f.Helper()
	l.f.await("a result is about to be stored", func() error {
		var n int
		if err := l.tx.QueryRow(l.f.Context(), "SELECT count(*) "+blocked).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return errors.New("nobody waits for the run")
		}
		return nil
	})
}

// drop ends statements of clients that are dead, which would go on otherwise.
func (l *lock) drop() {
	l.f.Helper()
	if _, err := l.tx.Exec(l.f.Context(), "SELECT pg_terminate_backend(pid) "+blocked); err != nil {
		l.f.Fatal(err)
	}
}

func (l *lock) free() { _ = l.conn.Close(l.f.Context()) } // the server is gone, in one test

// end stops the server and looks for what it left.
func (f *faulty) end() {
	f.Helper()
	pid := f.server.Process.Pid
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

// One fault meets runs at four points: queued, in a check, in a deploy, and with
// the result reported but not stored. All of them end well, once, and nothing
// stays behind. A command that was killed half-way is run again, and so are
// checks and plans before it, which change nothing; a deploy that ended is not.
func TestFaults(t *testing.T) {
	for name, test := range map[string]struct {
		fault func(*faulty, *lock)
		again bool // jobs were killed, and run again
	}{
		"server killed": {again: true, fault: func(f *faulty, l *lock) {
			f.kill(f.server.Process.Pid)
			f.await("the children end", func() error {
				if left := f.processes(); len(left) > 0 {
					return fmt.Errorf("still there: %v", left)
				}
				return nil
			})
			l.drop()
			f.start()
		}},
		"worker killed": {again: true, fault: func(f *faulty, l *lock) {
			f.kill(f.child("-child"))
			l.drop()
		}},
		"engine killed": {fault: func(f *faulty, _ *lock) { f.kill(f.child("engine")) }},
		"PostgreSQL killed": {fault: func(f *faulty, _ *lock) {
			f.postgres.Crash(f.T)
			f.postgres.Resume(f.T)
		}},
		"server told to end": {fault: func(f *faulty, l *lock) {
			pid := f.server.Process.Pid
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
				f.Fatal(err)
			}
			f.await("the server listens no more", func() error {
				if !strings.Contains(f.log.String(), "draining") {
					return errors.New("it does not say that it drains")
				}
				return nil
			})
			l.free()
			f.await("the server drains", func() error {
				f.release()
				if slices.ContainsFunc(f.processes(), func(p process) bool { return p.pid == pid }) {
					return errors.New("it is there")
				}
				return nil
			})
			f.start()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t, 3)
			commits := map[string]controlplane.Commit{"storing": f.push("storing", "deploy")}
			f.awaitHeld("storing")
			l := f.lock("storing")
			f.await("the run goes on", func() error {
				f.release("storing")
				return f.state("storing", commits["storing"])
			})
			l.await()
			commits["deploying"] = f.push("deploying", "deploy")
			f.awaitHeld("deploying")
			commits["checking"] = f.push("checking", "check")
			f.awaitHeld("checking")
			commits["queued"] = f.push("queued", "deploy") // all slots are taken
			f.await("a run is queued", func() error {
				r, err := f.run("queued")
				if err == nil && r.State != controlplane.RunQueued {
					err = fmt.Errorf("it is %s", r.State)
				}
				return err
			})

			test.fault(f, l)
			l.free()
			commits["late"] = f.push("late", "deploy")
			f.await("all runs end", func() error {
				f.release()
				for name, c := range commits {
					if r, err := f.run(name); err != nil || r.State != controlplane.RunSucceeded {
						return fmt.Errorf("%s is %s: %s, %w", name, r.State, r.Error, err)
					}
					if err := f.state(name, c); err != nil {
						return err
					}
				}
				return nil
			})
			want := map[string]int{"storing": 1, "deploying": 1, "checking": 1, "queued": 1, "late": 1}
			if test.again {
				want["deploying"], want["checking"] = 2, 2
			}
			for name, n := range want {
				if got := len(f.seen[f.folder(name)]); got != n {
					t.Errorf("the held command of %s ran %d times, want %d", name, got, n)
				}
			}
			f.end()
			if n := f.stored("run"); n != len(commits) {
				t.Errorf("%d runs", n)
			}
			if n := f.stored("delivery WHERE state <> 'dispatched' AND event <> 'ping'"); n != 0 {
				t.Errorf("%d deliveries were not dispatched", n)
			}
		})
	}
}

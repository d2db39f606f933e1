package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"skep/internal/processtest"
)

// postgres is a private server with PostgreSQL's own settings: what is
// acknowledged is on the disk. It listens on a socket in its folder alone.
type postgres struct {
	dir      string
	bin      string
	password string
	version  string
	account  *syscall.Credential // nil: as this program
	server   *processtest.Process
}

func startPostgres(ctx context.Context) (p *postgres, err error) {
	installed, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // Debian keeps it out of PATH
	if err != nil {
		return nil, err
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		installed = append(installed, path)
	}
	if len(installed) == 0 {
		return nil, errors.New("the control plane needs PostgreSQL: install the package postgresql")
	}
	p = &postgres{bin: filepath.Dir(slices.Max(installed)), password: rand.Text()}
	if p.dir, err = os.MkdirTemp("", "skep-report-"); err != nil { // a socket's path is short
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stop())
		}
	}()
	if err := p.init(ctx); err != nil {
		return nil, err
	}
	if err := p.start(ctx); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	return p, p.wait(ctx)
}

func (p *postgres) init(ctx context.Context) error {
	passwords := filepath.Join(p.dir, "password")
	if err := os.WriteFile(passwords, []byte(p.password+"\n"), 0o600); err != nil {
		return err
	}
	if os.Getuid() == 0 { // PostgreSQL refuses to be root
		account, err := user.Lookup("postgres")
		if err != nil {
			return err
		}
		uid, err1 := strconv.Atoi(account.Uid)
		gid, err2 := strconv.Atoi(account.Gid)
		if err := errors.Join(err1, err2, os.Chown(p.dir, uid, gid), os.Chown(passwords, uid, gid)); err != nil {
			return err
		}
		p.account = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	cmd := p.command(ctx, "initdb", "-D", p.data(), "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-A", "scram-sha-256", "--pwfile="+passwords)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := processtest.Run(cmd, syscall.SIGQUIT); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, &said)
	}
	out, err := p.command(ctx, "postgres", "--version").Output()
	if fields := strings.Fields(string(out)); len(fields) > 2 {
		p.version = "PostgreSQL " + fields[2]
	}
	return err
}

func (p *postgres) data() string { return filepath.Join(p.dir, "data") }

func (p *postgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.account}
	return cmd
}

// start runs the server until stop: those who use it end before it does, so the
// end of ctx does not end it.
func (p *postgres) start(ctx context.Context) error {
	cmd := p.command(context.WithoutCancel(ctx), "postgres", "-D", p.data(), "-c", "listen_addresses=", "-c", "unix_socket_directories="+p.dir)
	log, err := os.Create(p.log())
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	p.server, err = processtest.Start(cmd, syscall.SIGQUIT)
	return err
}

func (p *postgres) log() string { return filepath.Join(p.dir, "log") }

func (p *postgres) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, p.url("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-tick.C:
		case <-p.server.Ended():
			said, _ := os.ReadFile(p.log()) // it may not have come so far
			return fmt.Errorf("PostgreSQL ended:\n%s", said)
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL is not ready: %w", err)
		}
	}
}

func (p *postgres) stop() error {
	if p.server != nil {
		if err := p.server.End(syscall.SIGQUIT); err != nil {
			return err
		}
	}
	return os.RemoveAll(p.dir)
}

func (p *postgres) url(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", p.password), Path: "/" + database,
		RawQuery: url.Values{"host": {p.dir}}.Encode(),
	}
	return u.String()
}

// create makes an empty database and returns its address.
func (p *postgres) create(ctx context.Context, name string) (string, error) {
	conn, err := pgx.Connect(ctx, p.url("postgres"))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return "", err
	}
	return p.url(name), nil
}

// Package bench runs what the docker proxy is compared with: HAProxy as
// tecnativa/docker-socket-proxy sets it up, and an engine that answers both.
package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// sections are the path prefixes that docker-socket-proxy's variables open.
// https://github.com/Tecnativa/docker-socket-proxy#grant-or-revoke-access-to-certain-api-sections
var sections = []struct{ variable, prefix string }{
	{"AUTH", "auth"}, {"BUILD", "build"}, {"COMMIT", "commit"}, {"CONFIGS", "configs"}, {"CONTAINERS", "containers"},
	{"DISTRIBUTION", "distribution"}, {"EVENTS", "events"}, {"EXEC", "exec"}, {"GRPC", "grpc"}, {"IMAGES", "images"}, {"INFO", "info"},
	{"NETWORKS", "networks"}, {"NODES", "nodes"}, {"PING", "_ping"}, {"PLUGINS", "plugins"}, {"SECRETS", "secrets"}, {"SERVICES", "services"},
	{"SESSION", "session"}, {"SWARM", "swarm"}, {"SYSTEM", "system"}, {"TASKS", "tasks"}, {"VERSION", "version"}, {"VOLUMES", "volumes"},
}

// actions are those variables that open single writes of a container.
var actions = []struct{ variable, names string }{
	{"ALLOW_RESTARTS", "(stop|restart|kill)"}, {"ALLOW_START", "start"}, {"ALLOW_STOP", "stop"},
}

// defaults are the variables that its image sets to 1.
var defaults = []string{"EVENTS", "PING", "VERSION"}

// Config is a configuration of HAProxy that decides as docker-socket-proxy
// does: a prefix opens all below it, and POST=1 every method of it. HAProxy
// inherits its listener as file 3.
func Config(socket string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `global
    log stdout format raw daemon info
    maxconn 4000
defaults
    mode http
    log global
    option httplog
    option dontlognull
    option http-server-close
    timeout http-request 10s
    timeout connect 10s
    timeout client 10m
    timeout server 10m
    timeout http-keep-alive 10s
    maxconn 3000
backend engine
    server socket %[1]s
backend stream
    server socket %[1]s
    timeout server 0
frontend api
    bind fd@3
    acl writing env(POST) -m bool
    http-request deny if !METH_GET !writing
`, socket)
	for _, a := range actions {
		fmt.Fprintf(&b, "    http-request allow if { path,url_dec -m reg -i ^(/v[0-9.]+)?/containers/[a-z0-9_.-]+/%s } { env(%s) -m bool }\n", a.names, a.variable)
	}
	for _, s := range sections {
		fmt.Fprintf(&b, "    http-request allow if { path,url_dec -m reg -i ^(/v[0-9.]+)?/%s } { env(%s) -m bool }\n", s.prefix, s.variable)
	}
	b.WriteString(`    http-request deny
    use_backend stream if { path,url_dec -m reg -i ^(/v[0-9.]+)?/events }
    default_backend engine
`)
	return b.String()
}

// Process is a proxy that runs.
type Process struct {
	Address string
	Pid     int

	cmd    *exec.Cmd
	exited chan error
	said   *bytes.Buffer
}

// Stop ends the process and waits for it.
func (p *Process) Stop() {
	p.cmd.Process.Kill()
	<-p.exited
}

// HAProxy starts HAProxy with variables of docker-socket-proxy, NAME=value.
func HAProxy(ctx context.Context, dir, socket string, env ...string) (*Process, error) {
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(Config(socket)), 0o600); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	inherited, err := l.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	defer inherited.Close()
	cmd := exec.CommandContext(ctx, "haproxy", "-db", "-f", file)
	for _, name := range defaults {
		cmd.Env = append(cmd.Env, name+"=1")
	}
	cmd.Env = append(cmd.Env, env...) // the last one counts
	cmd.ExtraFiles = []*os.File{inherited}
	return start(cmd, func(*Process) (string, bool) { return l.Addr().String(), true })
}

// start runs a command until it answers at the address that it is found at.
func start(cmd *exec.Cmd, address func(*Process) (string, bool)) (*Process, error) {
	p := &Process{cmd: cmd, exited: make(chan error, 1), said: new(bytes.Buffer)}
	if cmd.Stderr == nil {
		cmd.Stderr = p.said
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p.Pid = cmd.Process.Pid
	go func() { p.exited <- cmd.Wait() }()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if at, ok := address(p); ok && answers(at) {
			p.Address = at
			return p, nil
		}
		select {
		case err := <-p.exited:
			return nil, fmt.Errorf("%s ended: %w: %s", cmd.Path, err, p.said)
		case <-deadline.C:
			p.Stop()
			return nil, errors.New(cmd.Path + " does not answer")
		case <-tick.C:
		}
	}
}

// answers reports whether a server reads and answers there: the listener of
// HAProxy takes connections before HAProxy does.
func answers(address string) bool {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := c.Write([]byte("GET /_ping HTTP/1.0\r\n\r\n")); err != nil {
		return false
	}
	_, err = c.Read(make([]byte, 1))
	return err == nil
}

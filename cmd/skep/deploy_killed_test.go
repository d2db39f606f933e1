package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"skep/services/deploy"
)

// killedApp has a service on a network that is replaced, beside deployApp's.
var killedApp = strings.NewReplacer(
	"replicas: 2", "replicas: 1",
	"  migrate:\n", "  moved:\n    image: whoami:0.1\n    mem_limit: 64m\n    deploy: {endpoint_mode: dnsrr}\n    networks: {back: {}}\n  migrate:\n",
	"networks: {shared: {external: true}}", "networks: {shared: {external: true}, back: {ipam: {config: [{subnet: 10.77.250.0/24}]}}}",
).Replace(deployApp)

// A deployer that is killed with the signal that nobody can catch, after any of
// its writes, leaves a Swarm that the next deploy finishes: a service is updated,
// another stops for its network to be replaced. To the Swarm a deployer that is
// killed before a write is one that was killed after the write before.
func TestKilledOnASwarm(t *testing.T) {
	b := newDeployBed(t)
	engine := b.engine(t)
	b.write("app/stack.yaml", killedApp)
	b.skep(t, exitDone, "deploy")
	for at, done := 0, false; !done; at++ {
		subnet := fmt.Sprintf("10.77.%d.0/24", at)
		b.write("app/stack.yaml", strings.NewReplacer(`A: "1"`, fmt.Sprintf(`A: "kill %d"`, at), "10.77.250.0/24", subnet).Replace(killedApp))
		b.write("app/conf.txt", fmt.Sprintf("kill %d\n", at))
		started := make(chan struct{})
		var cmd *exec.Cmd
		killer := newKiller(t, strings.TrimPrefix(b.s.Host(), "unix://"), at, func() { <-started; cmd.Process.Kill() })
		cmd = process(t.Context(), []string{"DOCKER_HOST=" + killer.host}, "-C", b.dir, "deploy", "--json")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		close(started)
		err := cmd.Wait()
		if done = killer.call() == ""; done && err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		// The next deploy, with a lease that is taken over sooner.
		project := b.project(t)
		next := deploy.Options{Who: "next", Now: time.Now, Term: time.Second, Timeout: 5 * time.Minute}
		if _, err := deploy.Deploy(t.Context(), engine, project, next); err != nil {
			t.Fatalf("killed after %s: the next deploy failed: %v", killer.call(), err)
		}
		if plan := comparison(t, engine, project); !plan.Empty() {
			t.Errorf("%s", textOf(plan))
		}
		want := fmt.Sprintf("[A=kill %d B=a $b]", at)
		if got := b.inspect(t, "app_web", "{{.Spec.TaskTemplate.ContainerSpec.Env}}"); got != want {
			t.Errorf("web has %s", got)
		}
		if got := docker(t, b.s, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "app_back"); got != subnet {
			t.Errorf("the network has %s, want %s", got, subnet)
		}
		if got := docker(t, b.s, "service", "ls", "--format", "{{.Name}} {{.Replicas}}", "-f", "name=app_moved"); got != "app_moved 1/1" {
			t.Errorf("on the network is %q", got)
		}
		if got := b.inspect(t, "app_migrate", "{{.JobStatus.JobIteration.Index}}"); got != "0" {
			t.Error("the job ran again")
		}
		if t.Failed() {
			t.Fatalf("killed after %s", killer.call())
		}
	}
}

// killer passes the Docker API on and kills after a write.
type killer struct {
	host   string
	killed atomic.Pointer[string] // the write that it killed after
}

// call is the write that it killed after; none as long as it has not.
func (k *killer) call() string {
	if call := k.killed.Load(); call != nil {
		return *call
	}
	return ""
}

func newKiller(t *testing.T, socket string, at int, kill func()) *killer {
	t.Helper()
	dir, err := os.MkdirTemp("", "skep-kill-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	k := &killer{host: "unix://" + filepath.Join(dir, "s")}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "docker"})
	proxy.FlushInterval = -1
	proxy.ErrorLog = quiet
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	proxy.Transport = transport
	var writes atomic.Int64
	server := &http.Server{ErrorLog: quiet, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		write := r.Method == http.MethodPost || r.Method == http.MethodDelete
		mine := write && writes.Add(1)-1 == int64(at)
		proxy.ServeHTTP(w, r)
		if mine {
			call := r.Method + " " + r.URL.Path
			k.killed.Store(&call)
			kill()
		}
	})}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	return k
}

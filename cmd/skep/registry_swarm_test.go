package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"skep/internal/swarmtest"
)

// registryAddress is one of the node alone: engines ask loopback without TLS.
const registryAddress = "127.0.0.1:5000"

// startRegistry runs a registry on the node that lets one user in.
func startRegistry(t *testing.T, n *swarmtest.Node, user, password string) {
	t.Helper()
	server := swarmtest.Tool(t, "docker-registry")
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"htpasswd": user + ":" + string(hash) + "\n",
		"config.yml": `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: ` + filepath.Join(dir, "data") + `}}
http: {addr: "` + registryAddress + `"}
auth: {htpasswd: {realm: test, path: ` + filepath.Join(dir, "htpasswd") + `}}
`,
	})
	ctx, stop := context.WithCancel(t.Context())
	cmd := n.Command(ctx, server, "serve", filepath.Join(dir, "config.yml"))
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("the registry said\n%s", &said)
		}
	})
}

// privateImage deploys an image of a private registry that the node does not
// have: it takes the login that docker stored.
func (b *deployBed) privateImage(t *testing.T) {
	const user, password, image = "bee", "planted-registry-password", registryAddress + "/private/whoami:1"
	startRegistry(t, b.s.Node, user, password)
	config := t.TempDir()
	with := func(args ...string) error {
		cmd := exec.CommandContext(t.Context(), "docker", append([]string{"--config", config, "-H", b.s.Host()}, args...)...)
		cmd.Stdin = strings.NewReader(password)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Logf("docker %s: %s", args[0], out)
		}
		return err
	}
	if err := swarmtest.Poll(3*time.Minute, func() error { return with("login", "--username", user, "--password-stdin", registryAddress) }); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"tag", "whoami:0.1", image}, {"push", "-q", image}, {"rmi", image}} {
		if err := with(args...); err != nil {
			t.Fatal(err)
		}
	}
	b.write("private/stack.yaml", "name: private\nservices:\n  web: {image: \""+image+"\", mem_limit: 64m, deploy: {endpoint_mode: dnsrr, restart_policy: {delay: 500ms}}}\n")
	env := append(b.env(), "DOCKER_CONFIG="+config)
	out := skep(t, env, exitFailed, "-C", b.dir, "deploy", "private", "--timeout", "1m")
	contains(t, out, "service private_web", "likely cause: the node has no such image and could not pull it", "--with-registry-auth")
	out += skep(t, env, exitDone, "-C", b.dir, "deploy", "private", "--with-registry-auth")
	contains(t, out, "service private_web is up")
	if strings.Contains(out, password) {
		t.Errorf("the password was printed:\n%s", out)
	}
	if got := docker(t, b.s, "image", "ls", "-q", registryAddress+"/private/whoami"); got == "" {
		t.Error("the node has not pulled the image")
	}
	b.skep(t, exitDone, "down", "private", "--yes")
	if err := os.RemoveAll(filepath.Join(b.dir, "private")); err != nil {
		t.Fatal(err)
	}
}

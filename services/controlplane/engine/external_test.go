package engine_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"skep/internal/porttest"
	"skep/services/controlplane/child"
	"skep/services/controlplane/engine"
	"skep/services/controlplane/engine/hatchet"
)

// prepareConfig is what makes a database Hatchet's.
type prepareConfig struct{ Database, Token string }

// runPrepare is a process of its own as `skep-server hatchet prepare` is: it
// changes its environment.
func runPrepare(ctx context.Context) error {
	var c prepareConfig
	ctx, err := child.Config(ctx, os.Stdin, &c)
	if err != nil {
		return err
	}
	return hatchet.Prepare(ctx, c.Database, c.Token)
}

// newExternalBed has an engine that is nobody's child: Hatchet's own command,
// from its module, with the settings that the catalogue's stack gives to its
// image. It is found by address and token.
func newExternalBed(t *testing.T) *bed {
	t.Helper()
	b := emptyBed(t)
	binary := filepath.Join(t.TempDir(), "hatchet-engine")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/hatchet-dev/hatchet/cmd/hatchet-engine")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the engine: %v\n%s", err, out)
	}
	address := porttest.Address(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	const url = "https://hatchet.test:8443"
	made, err := hatchet.NewCredentials(t.Context(), url, address)
	if err != nil {
		t.Fatal(err)
	}
	b.hatchet = b.server.Database(t)
	b.prepare(b.hatchet, made.Token)

	server := exec.Command(binary)
	server.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "DATABASE_URL=" + b.hatchet, "SERVER_URL=" + url,
		"SERVER_AUTH_COOKIE_DOMAIN=hatchet.test", "SERVER_AUTH_COOKIE_SECRETS=" + made.Cookies,
		"SERVER_ENCRYPTION_MASTER_KEYSET=" + made.Master,
		"SERVER_ENCRYPTION_JWT_PRIVATE_KEYSET=" + made.PrivateJWT, "SERVER_ENCRYPTION_JWT_PUBLIC_KEYSET=" + made.PublicJWT,
		"SERVER_MSGQUEUE_KIND=postgres", "SERVER_GRPC_INSECURE=true", "SERVER_GRPC_PORT=" + port, "SERVER_GRPC_BIND_ADDRESS=127.0.0.1",
		"SERVER_GRPC_BROADCAST_ADDRESS=" + address, "SERVER_INTERNAL_CLIENT_INTERNAL_GRPC_BROADCAST_ADDRESS=" + address,
		"SERVER_HEALTHCHECK=false", "SERVER_SECURITY_CHECK_ENABLED=false", "SERVER_LOGGER_LEVEL=error",
		"SERVER_ADDITIONAL_LOGGERS_QUEUE_LEVEL=error", "SERVER_ADDITIONAL_LOGGERS_PGXSTATS_LEVEL=error", "DATABASE_LOGGER_LEVEL=error",
	}
	server.Stdout, server.Stderr = prefixed{t.Output(), "engine"}, prefixed{t.Output(), "engine"}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM) // it may have ended
		<-ended
	})
	deadline := time.Now().Add(3 * time.Minute)
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			break
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the engine ended: %v", err)
		case <-time.After(20 * time.Millisecond): // a poll
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	settings := map[string]string{"SKEP_HATCHET_ADDRESS": address, "SKEP_HATCHET_TOKEN": made.Token}
	if b.address, err = engine.AddressFrom(func(name string) (string, bool) { v, ok := settings[name]; return v, ok }); err != nil {
		t.Fatal(err)
	}
	b.open()
	return b
}

func (b *bed) prepare(database, token string) {
	b.Helper()
	own, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), own)
	cmd.Env = append(os.Environ(), role+"=prepare")
	in, err := cmd.StdinPipe() // its end would be this process's
	if err != nil {
		b.Fatal(err)
	}
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if err := encode(in, prepareConfig{database, token}); err != nil {
		b.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		b.Fatalf("prepare the engine's database: %v\n%s", err, out)
	}
}

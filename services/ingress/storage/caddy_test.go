package storage

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"skep/internal/polltest"
	"skep/internal/postgrestest"
)

const site = "bee.example.com"

// Replicas serve one certificate of one CA, and one that starts without the
// database serves it, too.
func TestReplicasShareCertificates(t *testing.T) {
	server := postgrestest.Start(t)
	dsn := server.Database(t)
	internal := object{"module": "internal"}
	one, two := newReplica(t, dsn, internal), newReplica(t, dsn, internal)

	first := one.start(t)
	serial := one.serial(t)
	two.start(t).end(t) // reads what the first has stored
	again := two.start(t)
	if got := two.serial(t); got != serial {
		t.Errorf("the second replica serves certificate %s, the first %s", got, serial)
	}
	first.end(t)

	server.Halt(t)
	if got := two.serial(t); got != serial {
		t.Errorf("it serves %s without the database, %s before", got, serial)
	}
	again.end(t)
	restarted := two.start(t)
	if got := two.serial(t); got != serial {
		t.Errorf("it serves %s after a start without the database, %s before", got, serial)
	}
	polltest.Until(t, func() error { // what it says comes through a pipe
		if !strings.Contains(restarted.err.String(), "the database is away") {
			return fmt.Errorf("it says:\n%s", restarted.err)
		}
		return nil
	})
	if said := restarted.err.String(); strings.Contains(said, server.Password()) {
		t.Errorf("it says:\n%s", said)
	}
}

// A replica that has nothing and can ask nobody starts all the same, and does
// not ask a CA for what it could not store. It does once the database is back.
func TestReplicaStartsWithNothing(t *testing.T) {
	server := postgrestest.Start(t)
	r := newReplica(t, server.Database(t), object{"module": "acme", "ca": "https://127.0.0.1:1/directory"})
	server.Halt(t)
	p := play(t, "caddy", r.config)
	p.expect(t, "serving")
	polltest.Until(t, func() error {
		if !strings.Contains(p.err.String(), "the database is away") {
			return fmt.Errorf("it did not look at the storage:\n%s", p.err)
		}
		return nil
	})
	const asked = "127.0.0.1:1"
	if said := p.err.String(); strings.Contains(said, asked) || strings.Contains(said, "failed storage check") {
		t.Errorf("it says:\n%s", said)
	}
	server.Resume(t)
	polltest.Until(t, func() error {
		if !strings.Contains(p.err.String(), asked) {
			return fmt.Errorf("it does not obtain the certificate:\n%s", p.err)
		}
		return nil
	})
}

type object = map[string]any

// replica is a Caddy with a folder of its own.
type replica struct{ dir, config, socket string }

func newReplica(t *testing.T, dsn string, issuer object) *replica {
	t.Helper()
	dir, err := os.MkdirTemp("", "skep-replica-") // not t.TempDir: a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &replica{dir: dir, config: filepath.Join(dir, "caddy.json"), socket: filepath.Join(dir, "https")}
	apps := object{
		"tls": object{
			"certificates": object{"automate": []string{site}},
			"automation":   object{"policies": []object{{"subjects": []string{site}, "issuers": []object{issuer}}}},
		},
		"http": object{"servers": object{"edge": object{
			"listen":                  []string{"unix/" + r.socket},
			"protocols":               []string{"h1", "h2"},
			"automatic_https":         object{"disable": true},
			"tls_connection_policies": []object{{}},
			"routes":                  []object{{"handle": []object{{"handler": "static_response", "body": "buzz"}}}},
		}}},
	}
	if issuer["module"] == "internal" {
		apps["pki"] = object{"certificate_authorities": object{"local": object{"install_trust": false}}}
	}
	config, err := json.Marshal(object{
		"admin":   object{"disabled": true},
		"storage": object{"module": "postgres", "dsn": dsn, "copy": filepath.Join(dir, "copy")},
		"apps":    apps,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.config, config, 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *replica) start(t *testing.T) *process {
	t.Helper()
	p := play(t, "caddy", r.config)
	p.expect(t, "serving")
	r.serial(t) // its certificate is there
	return p
}

// serial returns the number of the certificate that it serves.
func (r *replica) serial(t *testing.T) (serial string) {
	t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{ServerName: site, InsecureSkipVerify: true}} // the CA is the replicas' own
	polltest.Until(t, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		conn, err := dialer.DialContext(ctx, "unix", r.socket)
		if err != nil {
			return fmt.Errorf("ask the replica: %w", err)
		}
		defer conn.Close()
		serial = conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
		return nil
	})
	return serial
}

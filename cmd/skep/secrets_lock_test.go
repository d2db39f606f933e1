package main

import (
	"os"
	"path/filepath"
	"testing"

	"skep/generator/spec"
	"skep/secrets/onepassword"
	"skep/secrets/secretstest"
)

// Who has neither the lock nor the store plans what runs, by the labels of the
// Swarm's secrets.
func TestSecretsLockFromTheSwarm(t *testing.T) {
	engine := startFakeEngine(t)
	connect := secretstest.NewConnect(connectToken)
	ids := connect.Fill(secretstest.Content{"test": {"i0": {"f": plantedValue(0, 1)}, "i1": {"f": plantedValue(1, 1)}, "i2": {"f": plantedValue(2, 1)}}})
	connect.Set(ids["test/i1"], "f", plantedValue(1, 2))
	t.Setenv("OP_CONNECT_HOST", secretstest.Start(t, connect))
	t.Setenv(onepassword.TokenVariable, connectToken)
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"cluster.yaml": secretsCluster, "app/stack.yaml": plantedStack})
	contains(t, skepIn(t, dir, exitDone, "secrets", "lock"), "missing  op://test/i0/f: the Swarm has no secret of it\n", "Locked: 0 of 3.\n")
	if _, err := os.Stat(filepath.Join(dir, spec.SecretsLock)); err == nil {
		t.Error("a lock of nothing is written")
	}
	skepIn(t, dir, exitDone, "secrets", "sync")
	skepIn(t, dir, exitDone, "deploy", "--resolve-image", "never")
	synced, err := os.ReadFile(filepath.Join(dir, spec.SecretsLock))
	if err != nil {
		t.Fatal(err)
	}

	// A clone of the repository, where nobody has the token.
	clone := t.TempDir()
	writeFiles(t, clone, map[string]string{"cluster.yaml": secretsCluster, "app/stack.yaml": plantedStack})
	t.Setenv("OP_CONNECT_HOST", "")
	t.Setenv(onepassword.TokenVariable, "")
	contains(t, skepIn(t, clone, exitFailed, "plan"), "app_i0-f")
	contains(t, skepIn(t, clone, exitDone, "secrets", "lock", "--json"), `"missing": []`, `"op://test/i1/f": "2"`, `"changes": true`)
	if got, err := os.ReadFile(filepath.Join(clone, spec.SecretsLock)); err != nil || string(got) != string(synced) {
		t.Errorf("the lock is\n%s\nnot\n%s\n%v", got, synced, err)
	}
	skepIn(t, clone, exitDone, "plan", "--detailed-exitcode")
	contains(t, skepIn(t, clone, exitDone, "secrets", "lock", "--json"), `"changes": false`)
	if n := len(engine.secretValues()); n != 3 {
		t.Errorf("%d secrets were made, not 3", n)
	}
}

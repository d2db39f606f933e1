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
	vault, ids := connect.Vault("test"), map[string]string{}
	for i, name := range []string{"i0", "i1", "i2"} {
		ids[name] = connect.Item(vault, secretstest.NewItem(name, map[string]string{"f": plantedValue(i, 1)}))
	}
	connect.Set(ids["i1"], "f", plantedValue(1, 2))
	store := secretstest.Start(t, connect)
	t.Setenv("OP_CONNECT_HOST", store)
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
	contains(t, skepIn(t, clone, exitDone, "secrets", "lock", "--json"), `"missing": []`, `"version": "2"`, `"changes": true`)
	if got, err := os.ReadFile(filepath.Join(clone, spec.SecretsLock)); err != nil || string(got) != string(synced) {
		t.Errorf("the lock is\n%s\nnot\n%s\n%v", got, synced, err)
	}
	skepIn(t, clone, exitDone, "plan", "--detailed-exitcode")
	contains(t, skepIn(t, clone, exitDone, "secrets", "lock", "--json"), `"changes": false`)
	if n := len(engine.secretValues()); n != 3 {
		t.Errorf("%d secrets were made, not 3", n)
	}

	// The item is made anew, and begins at version 1. The clone finds out.
	connect.Delete(ids["i1"])
	anew := connect.Item(vault, secretstest.NewItem("i1", map[string]string{"f": plantedValue(1, 3)}))
	t.Setenv("OP_CONNECT_HOST", store)
	t.Setenv(onepassword.TokenVariable, connectToken)
	contains(t, skepIn(t, dir, exitDone, "secrets", "sync"), "create   app_i1-f_v1, after app_i1-f_v2: the item changed\n")
	skepIn(t, dir, exitDone, "deploy", "--resolve-image", "never")
	contains(t, skepIn(t, clone, exitDone, "secrets", "lock", "--json"), `"item": "`+anew+`"`, `"changes": true`)
	skepIn(t, clone, exitDone, "plan", "--detailed-exitcode")

	// Through a docker proxy that hides the labels nothing can be told, and
	// nothing is changed.
	engine.hide()
	values := len(engine.secretValues())
	for _, command := range []string{"plan", "sync", "lock", "rotate"} {
		contains(t, skepIn(t, dir, exitFailed, "secrets", command), "the docker proxy hides values: a label of secret app_", "LABEL_VALUES=1")
	}
	if n := len(engine.secretValues()); n != values || len(engine.names()) != 4 {
		t.Errorf("%d secrets were made, %q are there", n-values, engine.names())
	}
}

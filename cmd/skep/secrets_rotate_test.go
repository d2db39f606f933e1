package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"skep/internal/logtest"
	"skep/internal/polltest"
	"skep/secrets/onepassword"
	"skep/secrets/secretstest"
)

// rotating is a project that is deployed, and has a secret to rotate.
func rotating(t *testing.T) (engine *fakeEngine, dir string) {
	engine = startFakeEngine(t)
	connect := secretstest.NewConnect(connectToken)
	ids := connect.Fill(secretstest.Content{"test": {"i0": {"f": plantedValue(0, 1)}, "i1": {"f": plantedValue(1, 1)}, "i2": {"f": plantedValue(2, 1)}}})
	t.Setenv("OP_CONNECT_HOST", secretstest.Start(t, connect))
	t.Setenv(onepassword.TokenVariable, connectToken)
	dir = t.TempDir()
	writeFiles(t, dir, map[string]string{"cluster.yaml": secretsCluster, "app/stack.yaml": plantedStack})
	skepIn(t, dir, exitDone, "secrets", "sync")
	skepIn(t, dir, exitDone, "deploy", "--resolve-image", "never")

	connect.Set(ids["test/i0"], "f", plantedValue(0, 2))
	return engine, dir
}

// watch watches until the log holds a text.
func watch(t *testing.T, dir, until string) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var log logtest.Buffer
	done := make(chan int, 1)
	go func() { done <- run(ctx, []string{"skep", "-C", dir, "secrets", "watch", "--json"}, nil, &log, &log) }()
	polltest.Until(t, func() error {
		if text := log.String(); !strings.Contains(text, until) {
			return fmt.Errorf("watch says\n%s", text)
		}
		return nil
	})
	stop()
	if code := <-done; code != exitDone {
		t.Errorf("watch ended with %d:\n%s", code, log.String())
	}
	return log.String()
}

// A rotation after which a service does not come up says of it what a deploy
// does.
func TestARotationThatFails(t *testing.T) {
	engine, dir := rotating(t)
	engine.crash(true)
	contains(t, skepIn(t, dir, exitFailed, "secrets", "rotate"), "app: service app_web failed: 3 tasks ended\n", " on node1: failed, exit code 3\n", "likely cause: ",
		"create   app_i0-f_v2, after app_i0-f_v1: the item changed\n", "deploy stack app: ")

	var said struct {
		Services []struct {
			Service, Node string
			ExitCode      int
		} `json:"services"`
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"skep", "-C", dir, "secrets", "rotate", "--json"}, nil, &out, &errs); code != exitFailed {
		t.Fatalf("exit code %d: %s%s", code, &out, &errs)
	}
	if err := json.Unmarshal(out.Bytes(), &said); err != nil || len(said.Services) != 1 || said.Services[0].Service != "app_web" || said.Services[0].Node != "node1" || said.Services[0].ExitCode != 3 {
		t.Errorf("%v: %s", err, &out)
	}

	watch(t, dir, "exit code 3")
}

// A deploy of somebody else's is no failure of a rotation: the next look tries.
func TestARotationThatWaits(t *testing.T) {
	engine, dir := rotating(t)
	const holder = "somebody@elsewhere"
	// The lease is there, and its holder alive: it moves on whenever it is asked for.
	moves := func(r *http.Request, body []byte) string {
		if r.PathValue("kind") != "configs" || !bytes.Contains(body, []byte(`"skep.lease"`)) {
			return ""
		}
		engine.clock++
		engine.objects["configs"]["lease"] = object{"ID": "lease", "Version": object{"Index": engine.clock}, "Spec": object{"Name": "skep.lease", "Labels": object{"skep.lease.holder": holder}}}
		return "rpc error: code = AlreadyExists desc = name conflicts with an existing object: config skep.lease already exists"
	}
	engine.refuse(moves)
	out := skepIn(t, dir, exitFailed, "secrets", "rotate")
	if n := strings.Count(out, "another deploy is under way"); n != 1 || !strings.Contains(out, "under way by "+holder) {
		t.Errorf("it says it %d times:\n%s", n, out)
	}
	if log := watch(t, dir, "under way by "+holder); !strings.Contains(log, "deploy of stack app waits") || strings.Contains(log, "ERROR") {
		t.Errorf("watch says\n%s", log)
	}
}

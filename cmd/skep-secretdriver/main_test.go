package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skep/secrets/onepassword"
)

func TestStarts(t *testing.T) {
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("rules: [{services: [a]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte("kept"), 0o600), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	good := map[string]string{"OP_CONNECT_HOST": "http://127.0.0.1:1", onepassword.TokenVariable: "planted-token"}
	for name, test := range map[string]struct {
		args string
		env  map[string]string
		code int
		say  string
	}{
		"help":              {"-h", good, 0, "Usage: skep-secretdriver"},
		"an argument":       {"x", good, 2, "Usage: skep-secretdriver"},
		"an unknown flag":   {"-x", good, 2, "not defined"},
		"no policy":         {"", good, 1, "there is no policy"},
		"no policy file":    {"-policy " + filepath.Join(dir, "gone"), good, 1, "read the policy"},
		"a broken policy":   {"-policy " + policy, good, 1, "needs services and references"},
		"too long":          {"-policy labels -timeout 15s", good, 1, "Swarm gives up after 15s"},
		"no time":           {"-policy labels -timeout 0", good, 1, "Swarm gives up after 15s"},
		"no host":           {"-policy labels", map[string]string{onepassword.TokenVariable: "planted-token"}, 1, "OP_CONNECT_HOST is not set"},
		"no token":          {"-policy labels", map[string]string{"OP_CONNECT_HOST": "http://127.0.0.1:1"}, 1, "there is no 1Password Connect token"},
		"a variable":        {"", map[string]string{"TIMEOUT": "soon"}, 2, "read TIMEOUT"},
		"policy by env":     {"-timeout 20s", map[string]string{"POLICY": "labels"}, 1, "Swarm gives up after 15s"},
		"a folder is there": {"-policy labels -listen " + dir, good, 1, dir + " is there and is no socket: give -listen another path"},
		"a file is there":   {"-policy labels -listen " + file, good, 1, file + " is there and is no socket: give -listen another path"},
		"a link is there":   {"-policy labels -listen " + link, good, 1, link + " is there and is no socket: give -listen another path"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, v := range []string{"OP_CONNECT_HOST", onepassword.TokenVariable, onepassword.TokenFileVariable, "POLICY", "TIMEOUT", "CACHE", "LISTEN", "LOG"} {
				t.Setenv(v, test.env[v])
			}
			var out bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // one that starts all the same would not end
			defer cancel()
			if code := run(ctx, strings.Fields(test.args), nil, &out, &out); code != test.code || !strings.Contains(out.String(), test.say) {
				t.Errorf("exit code %d, want %d with %q:\n%s", code, test.code, test.say, &out)
			}
			if strings.Contains(out.String(), "planted") {
				t.Errorf("the token is printed:\n%s", &out)
			}
		})
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "kept" {
		t.Errorf("the file that was there: %q, %v", content, err)
	}
	if _, err := os.Lstat(link); err != nil {
		t.Errorf("the link that was there: %v", err)
	}
}

func TestListenRemovesDeadSocketsAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "skep.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	l, err := listen(t.Context(), path)
	if err != nil {
		t.Fatalf("a socket that nobody listens on: %v", err)
	}
	defer l.Close()
	if _, err := listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "another driver listens") {
		t.Errorf("a socket that is in use: %v", err)
	}

	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := listen(ended, path); err == nil {
		t.Error("a socket that could not be asked is taken")
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("a socket that could not be asked: %v", err)
	}
}

func TestPluginFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "plugin")
	var out bytes.Buffer
	if code := run(t.Context(), []string{"-plugin", dir}, nil, &out, &out); code != 0 {
		t.Fatalf("exit code %d\n%s", code, &out)
	}
	content, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Interface struct {
			Types  []string
			Socket string
		}
		Env []struct{ Name, Value string }
	}
	if err := json.Unmarshal(content, &config); err != nil {
		t.Fatal(err)
	}
	if config.Interface.Types[0] != "docker.secretprovider/1.0" || config.Interface.Socket != "skep.sock" {
		t.Errorf("the interface is %+v", config.Interface)
	}
	for _, v := range config.Env {
		if v.Name == onepassword.TokenVariable {
			t.Error("the token can be set as a variable, which the engine's API shows")
		}
	}
	info, err := os.Stat(filepath.Join(dir, "rootfs", "skep-secretdriver"))
	if err != nil || info.Mode().Perm()&0o111 == 0 {
		t.Errorf("the binary: %v, %v", info, err)
	}
}

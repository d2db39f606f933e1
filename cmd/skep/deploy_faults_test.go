package main

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"skep/secrets/secretstest"
	"skep/services/deploy"
)

// What a deploy must not take for success; each step starts from the one before.
func TestDeployFaultsOnASwarm(t *testing.T) {
	b := newDeployBed(t)
	step := func(name string, f func(t *testing.T)) {
		if !t.Failed() {
			t.Run(name, f)
		}
	}
	step("a problem", func(t *testing.T) {
		b.write("other.txt", "other\n")
		docker(t, b.s, "config", "create", "app_conf.txt_2c8b08da", filepath.Join(b.dir, "other.txt"))
		file := filepath.Join(t.TempDir(), "plan.json")
		contains(t, b.skep(t, exitFailed, "plan", "-out", file), "holds something else", "A problem stands in the way.")
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("it saved a plan that cannot be applied: %v", err)
		}
		contains(t, b.skep(t, exitFailed, "plan", "--json"), "holds something else")
		contains(t, b.skep(t, exitFailed, "plan", "--markdown"), "[!CAUTION]")
		contains(t, b.skep(t, exitFailed, "deploy", "--dry-run"), "holds something else")
		contains(t, b.skep(t, exitFailed, "deploy"), "holds something else")
		docker(t, b.s, "config", "rm", "app_conf.txt_2c8b08da")
	})
	step("a global service that crashes", func(t *testing.T) {
		b.app("replicas: 2", "mode: global, restart_policy: {delay: 2s}", "    x-files:", "    command: [\"-nope\"]\n    x-files:")
		contains(t, b.skep(t, exitFailed, "deploy"), "service app_web failed: ", " tasks ended", "exit code 2", "is back at what it was")
		if left := docker(t, b.s, "service", "ls", "-q"); left != "" {
			t.Errorf("services are left: %s", left)
		}
	})
	step("a global service", func(t *testing.T) {
		b.app("replicas: 2", "mode: global")
		contains(t, b.skep(t, exitDone, "deploy"), "service app_web is up")
		contains(t, b.skep(t, exitDone, "status"), "1/1")
	})
	step("a job that becomes a service, and back", func(t *testing.T) {
		b.app("replicas: 2", "mode: global", "    command: [\"-h\"]\n    x-job: {before: [web]}\n", "    healthcheck: {test: [CMD, /whoami, -healthcheck], interval: 1s}\n", ", restart_policy: {condition: none}", "")
		contains(t, b.skep(t, exitDone, "deploy"), "removed service app_migrate", "service app_migrate is up")
		b.app("replicas: 2", "mode: global")
		contains(t, b.skep(t, exitDone, "plan"), "-/+ job app_migrate")
		b.skep(t, exitDone, "deploy")
		contains(t, b.skep(t, exitDone, "plan", "--detailed-exitcode"), "No changes")
	})
	step("logins", func(t *testing.T) {
		b.write("docker/config.json", "{")
		env := append(b.env(), "DOCKER_CONFIG="+filepath.Join(b.dir, "docker"))
		contains(t, skep(t, env, exitFailed, "-C", b.dir, "deploy", "--with-registry-auth"), "config.json")
		skep(t, env, exitDone, "-C", b.dir, "deploy")
	})
	step("a private registry", b.privateImage)
	step("doctor", func(t *testing.T) {
		server := httptest.NewServer(secretstest.NewConnect("token"))
		env := append(b.env(), "OP_CONNECT_HOST="+server.URL)
		var findings []deploy.Finding
		ask := func() (verdicts map[string]deploy.Verdict) {
			findings, verdicts = nil, map[string]deploy.Verdict{}
			if err := json.Unmarshal([]byte(skep(t, env, exitDone, "-C", b.dir, "doctor", "--json")), &findings); err != nil {
				t.Fatal(err)
			}
			for _, f := range findings {
				verdicts[f.Check] = f.Verdict
			}
			return verdicts
		}
		got := ask()
		for _, check := range []string{"certificates", "node clocks", "secret store"} {
			if got[check] != deploy.Fine {
				t.Errorf("%s is %q: %+v", check, got[check], findings)
			}
		}
		server.Close()
		if got := ask(); got["secret store"] != deploy.Warning {
			t.Errorf("without Connect: %+v", findings)
		}
	})
	step("the log of a terminal", func(t *testing.T) {
		b.app("replicas: 2", "mode: global", "command: [\"-h\"]", "command: [\"-h\"]\n    tty: true")
		b.skep(t, exitDone, "deploy")
		out := b.skep(t, exitDone, "logs", "app", "migrate")
		contains(t, out, "app_migrate | Answers with what it was asked and who it is.\n")
		if strings.ContainsAny(out, "\r\ufffd") {
			t.Errorf("the lines are not whole: %q", out)
		}
	})
}

// A saved plan holds the whole project: nobody else may read it.
func TestAPlanFileIsPrivate(t *testing.T) {
	file := filepath.Join(t.TempDir(), "plan.json")
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := savePlan(file, deploy.Saved{}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v", info.Mode())
	}
}

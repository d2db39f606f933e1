package main

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSettings(t *testing.T) {
	policy := filepath.Join(t.TempDir(), "policy")
	if err := os.WriteFile(policy, []byte("listen:8443 # a port\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environment := map[string]string{
		"CADDY_INGRESS_NETWORKS": "proxy,other", "SKEP_INGRESS_POLICY": "trust:ingress", "SKEP_INGRESS_POLICY_PATH": policy,
		"CADDY_DOCKER_PROXY_SERVICE_TASKS": "false", "CADDY_DOCKER_POLLING_INTERVAL": "30s",
	}
	read := func(args ...string) (func(string) string, func(string) string) {
		command := dockerProxyCommand()
		if err := command.Flags.Parse(args); err != nil {
			t.Fatal(err)
		}
		return func(name string) string { return command.Flags.Lookup(name).Value.(flag.Getter).Get().(string) }, func(name string) string { return environment[name] }
	}
	flags, variables := read("--label-prefix", "edge", "--polling-interval", "5s")
	s, err := settings(flags, variables)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Networks, []string{"proxy", "other"}) || !s.VirtualIPs || s.LabelPrefix != "edge" || time.Duration(s.Resync) != 30*time.Second || s.Admin != "" {
		t.Errorf("got %+v", s)
	}
	if !strings.Contains(s.Policy, "trust:ingress") || !strings.Contains(s.Policy, "listen:8443") {
		t.Errorf("policy %q", s.Policy)
	}
	environment["CADDY_DOCKER_MODE"] = "controller"
	if _, err := settings(flags, variables); err == nil {
		t.Error("a mode that does not exist is accepted")
	}
}

package check_test

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"skep/generator/check"
	"skep/generator/expand"
	"skep/generator/problem"
	"skep/generator/stack"
)

func run(t *testing.T, files string) problem.List {
	t.Helper()
	return check.Run(load(t, txtar.Parse([]byte(files))))
}

func having(l problem.List, rule string) problem.List {
	return slices.DeleteFunc(slices.Clone(l), func(p problem.Problem) bool { return p.Rule != rule })
}

// TestCluster has the cases where the cluster file decides.
func TestCluster(t *testing.T) {
	for _, tt := range []struct {
		rule, name, cluster, stack string
		want                       int
	}{
		{"missing-limits", "no default", "name: t", `app: {image: "app:1"}`, 1},
		{"missing-limits", "a default", "name: t\ndefaults: {resources: {memory: 1G}}", `app: {image: "app:1"}`, 0},
		{"unpinned-volume", "no nodes listed", "name: t", `app: {image: "app:1", volumes: ["/srv:/srv"]}`, 1},
		{"unpinned-volume", "one node", "name: t\nnodes: [only]", `app: {image: "app:1", volumes: ["/srv:/srv"]}`, 0},
		{"unpinned-volume", "two of three nodes", "name: t\nnodes: [a, b, c]", `app: {image: "app:1", volumes: ["/srv:/srv"], x-pin: [a, b]}`, 0},
		{"unused-network", "the ingress network, by default", "name: t", `app: {image: "app:1"}`, 0},
		{"missing-sso", "no SSO", "name: t\nzones: {z: {domain: a.b, private: true}}\ningress: {service: a/app}", `app: {image: "app:1", x-ingress: {host: h, port: 1}}`, 0},
		{"missing-sso", "SSO", "name: t\nsso: {upstream: 'http://x'}\nzones: {z: {domain: a.b, private: true}}\ningress: {service: a/app}", `app: {image: "app:1", x-ingress: {host: h, port: 1, auth: none}}`, 1},
	} {
		t.Run(tt.rule+" "+tt.name, func(t *testing.T) {
			found := having(run(t, "-- cluster.yaml --\n"+tt.cluster+"\n-- stack.yaml --\nname: a\nservices:\n  "+tt.stack+"\n"), tt.rule)
			if len(found) != tt.want {
				t.Errorf("found %v, want %d", found, tt.want)
			}
		})
	}
}

func TestSizes(t *testing.T) {
	files := func(name string, size int, reference bool) string {
		content := strings.Repeat(strings.Repeat("x", 99)+"\n", size/100+1)[:size-1] + "\n"
		if reference {
			content = "op://v/i/f\n" + content[:size-12] + "\n"
		}
		return "-- " + name + " --\n" + content + "-- stack.yaml --\nname: a\nservices: {app: {image: \"app:1\", x-files: [\"" + name + ":/x\"], configs: [c]}}\nconfigs: {c: {file: ./" + name + "}}\n"
	}
	for _, tt := range []struct {
		name      string
		size      int
		reference bool
		want      int
	}{
		{"config that fits", 1_023_999, false, 0},
		{"config that does not", 1_024_000, false, 2}, // by x-files and by configs
		{"secret that fits", 511_999, true, 0},
		{"secret that does not", 512_000, true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := having(run(t, files("app.conf", tt.size, tt.reference)), "config-too-large")
			if len(found) != tt.want {
				t.Errorf("found %v, want %d", found, tt.want)
			}
		})
	}
}

// TestWaivers sees that each rule that can be waived is, for its service alone,
// and that the others are not.
func TestWaivers(t *testing.T) {
	archive := `
-- stack.yaml --
name: a
x-waive: {missing-limits: for all}
services:
  one: {image: app, x-waive: {unpinned-image: one alone}}
  two: {image: app}
`
	found := run(t, archive)
	if got := having(found, "missing-limits"); len(got) > 0 {
		t.Errorf("the stack's waiver does not count: %v", got)
	}
	if got := having(found, "unpinned-image"); len(got) != 1 || got[0].Subject != "a/two" {
		t.Errorf("one service's waiver: %v", got)
	}
	if got := having(found, "unused-waiver"); len(got) > 0 {
		t.Errorf("%v", got)
	}
	c := load(t, txtar.Parse([]byte("-- empty --\n-- stack.yaml --\nname: a\nservices: {one: {image: \"app:1\", x-files: [\"empty:/x\"]}}\n")))
	c.Stacks[0].Services[0].Waivers["config-too-large"] = stack.Waiver{Reason: "none", Pos: problem.Position{File: "stack.yaml"}}
	if found := check.Run(c); len(having(found, "config-too-large")) != 1 || len(having(found, "unused-waiver")) != 1 {
		t.Errorf("a waiver of what cannot be waived: %v", found)
	}
	for _, id := range []string{"stack-cycle", "config-too-large", "unknown-entrypoint", "unused-network", "unused-waiver", "docker-refuses", "ingress-refuses", "yaml-syntax"} {
		if slices.Contains(check.Waivable(), id) {
			t.Errorf("%s cannot be waived", id)
		}
	}
}

// TestSilence sees that no message or remedy repeats a secret's value.
func TestSilence(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/plaintext-secret.txtar")
	if err != nil {
		t.Fatal(err)
	}
	found := having(check.Run(load(t, archive)), "plaintext-secret")
	for _, p := range found {
		for _, value := range []string{"kX9v", "5f4dcc", "battery", "change", "123456", "blue", "hunter", "eyJ", "ghp_", "AKIA", "xoxb", "toor", "s3cr3t", "me:mine", "glpat", "BEGIN", "YWRt"} {
			if strings.Contains(p.Message+p.Remedy, value) {
				t.Errorf("%s repeats %q", p.Position, value)
			}
		}
	}
}

// TestCycleIsDeployOrder sees that the policy and the deploy order agree.
func TestCycleIsDeployOrder(t *testing.T) {
	for name, uses := range map[string]map[string]string{
		"chain":    {"a": "b", "b": "c", "c": "c"},
		"circle":   {"a": "b", "b": "c", "c": "a"},
		"lasso":    {"a": "b", "b": "c", "c": "b"},
		"two":      {"a": "b", "b": "a", "c": "a"},
		"diamonds": {"a": "b, c", "b": "c", "c": "c"},
	} {
		t.Run(name, func(t *testing.T) {
			files := "-- cluster.yaml --\nname: t\nnetworks: {a: {}, b: {}, c: {}}\n"
			for _, s := range []string{"a", "b", "c"} {
				files += "-- " + s + "/stack.yaml --\nname: " + s + "\nservices: {app: {image: \"app:1\", x-uses: [" + uses[s] + "]}}\n"
			}
			c := load(t, txtar.Parse([]byte(files)))
			_, err := expand.DeployOrder(c)
			if found := having(check.Run(c), "stack-cycle"); (len(found) > 0) != (err != nil) {
				t.Errorf("found %v, and the deploy order says %v", found, err)
			}
		})
	}
}

func BenchmarkRun(b *testing.B) {
	var files strings.Builder
	for i := range 100 {
		name := "s" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		files.WriteString("-- " + name + "/stack.yaml --\nname: " + name + "\nservices:\n")
		for j := range 10 {
			service := "w" + string(rune('a'+j))
			files.WriteString("  " + service + ":\n    image: registry.example.com/team/app:1.2.3\n    environment: {A_URL: 'http://x:80/y', B_PASSWORD_FILE: /run/x, C_TOKEN: op://v/i/f, D: plain text of some length, E: '12'}\n" +
				"    x-entrypoint: [/x]\n    labels: {a.b: c}\n    command: [serve, --port, '80']\n    x-ingress: {host: " + name + service + ", port: 80}\n")
		}
	}
	c := load(b, txtar.Parse([]byte("-- cluster.yaml --\nname: t\nzones: {z: {domain: example.com}}\ningress: {service: saa/wa}\n"+files.String())))
	b.Run("services=1000", func(b *testing.B) {
		for b.Loop() {
			check.Run(c)
		}
	})
}

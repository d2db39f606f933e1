package importer_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/tools/txtar"

	"skep/generator/importer"
	"skep/generator/problem"
	"skep/generator/spec"
)

func TestBadInput(t *testing.T) {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for i, name := range strings.Split("bcdefgh", "") {
		last := string("abcdefg"[i])
		bomb += fmt.Sprintf("%s: &%s [%s]\n", name, name, strings.TrimSuffix(strings.Repeat("*"+last+", ", 10), ", "))
	}
	for name, c := range map[string]struct{ content, rule, says string }{
		"empty":            {"", "import-unreadable", "empty"},
		"white space":      {" \n\n\t\n", "import-unreadable", "empty"},
		"comments alone":   {"# nothing\n", "import-unreadable", "empty"},
		"null":             {"null\n", "import-unreadable", "empty"},
		"binary":           {"\x00\x01\xff", "import-unreadable", "not UTF-8"},
		"Latin-1":          {"services: {a: {image: \"caf\xe9\"}}", "import-unreadable", "not UTF-8"},
		"50 MB":            {strings.Repeat(" ", 50<<20), "import-unreadable", "larger than 4 MiB"},
		"flow nesting":     {strings.Repeat("[", 100_000), "import-syntax", "nested deeper"},
		"closed nesting":   {strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), "import-syntax", "nested deeper"},
		"block nesting":    {strings.Repeat("- ", 10_000), "import-syntax", "nested deeper"},
		"indented nesting": {nested(600), "import-syntax", "nested deeper"},
		"alias bomb":       {bomb + "services: {a: {image: x:1, x-h: *h}}", "import-syntax", "more than 200000 values"},
		"alias of itself":  {"a: &a [*a]\nservices: {a: {image: x:1}}", "import-syntax", "holds itself"},
		"unknown alias":    {"services: {a: {image: *no}}", "import-syntax", "no"},
		"duplicate key":    {"services:\n  a: {image: x:1}\n  a: {image: x:2}\n", "import-syntax", "a"},
		"syntax":           {"services:\n  a: {image: [}\n", "import-syntax", ""},
		"two documents":    {"services: {a: {image: x:1}}\n---\nservices: {b: {image: x:1}}\n", "import-syntax", "second document"},
		"list":             {"- a\n- b\n", "import-not-compose", "not a mapping"},
		"no services":      {"version: '3'\n", "import-not-compose", "no services"},
		"list of services": {"services: [a]\n", "import-not-compose", "no services"},
		"Kubernetes":       {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {}\n", "import-not-compose", "Kubernetes"},
		"name":             {"services: {a: {image: x:1}}\n", "import-name", "Not A Name"},
	} {
		t.Run(name, func(t *testing.T) {
			in := importer.Input{Name: "ok", File: "compose.yaml", Content: []byte(c.content)}
			if c.rule == "import-name" {
				in.Name = "Not A Name"
			}
			results, problems := importer.Import([]importer.Input{in})
			if results != nil || len(problems) != 1 {
				t.Fatalf("%d results, problems %v", len(results), problems)
			}
			p := problems[0]
			if p.Rule != c.rule || p.Severity != problem.Error || !strings.Contains(p.Message, c.says) || p.Remedy == "" || p.Line < 1 {
				t.Errorf("got %s\n%s", p, p.Remedy)
			}
			if strings.ContainsAny(p.Message, "\x00\n") {
				t.Errorf("the message holds control characters: %q", p.Message)
			}
		})
	}
}

func nested(levels int) string {
	var out strings.Builder
	for i := range levels {
		out.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return out.String()
}

// One bad file keeps all from being imported, and all that is wrong is said.
func TestBadInputAmongGood(t *testing.T) {
	good := importer.Input{Name: "good", File: "good.yaml", Content: []byte("services: {a: {image: x:1}}\n")}
	results, problems := importer.Import([]importer.Input{
		good,
		{Name: "empty", File: "empty.yaml"},
		{Name: "list", File: "list.yaml", Content: []byte("- a\n")},
	})
	if results != nil || len(problems) != 2 || problems[0].File != "empty.yaml" || problems[1].File != "list.yaml" {
		t.Errorf("%d results, %v", len(results), problems)
	}
}

// A secret of the Compose file or of .env is in nothing that comes out.
func TestNoSecretComesOut(t *testing.T) {
	const token = "ghp_0123456789abcdefghijklmnopqrstuvwxyzAB"
	compose := "services:\n  a:\n    image: x:1\n    environment:\n      GITHUB_TOKEN: " + token + "\n      DATABASE_URL: ${DSN}\n      MODE: ${MODE}\n" +
		"    deploy:\n      labels:\n        homepage.group: A\n        homepage.widget.type: gitea\n        homepage.widget.key: " + token + "\n"
	env := "DSN=postgres://app:" + token + "@db/app\nMODE=fast\nADMIN_TOKEN=" + token + "\n"
	results, problems := importer.Import([]importer.Input{{
		Name: "a", File: "compose.yaml", Content: []byte(compose), Beside: fstest.MapFS{".env": {Data: []byte(env)}},
	}})
	if problems.Failed() {
		t.Fatal(problems)
	}
	r := results[0]
	if all := fmt.Sprintf("%s%s%+v", r.Stack, r.Files, r); strings.Contains(all, token) {
		t.Errorf("a secret came out:\n%s\n%s\n%+v", r.Stack, r.Files, r.Kept)
	}
	if got := string(r.Files[".env"]); got != "MODE=fast\n" {
		t.Errorf(".env: got %q", got)
	}
	if n := len(r.Kept); n != 3 {
		t.Errorf("%d notes: %v", n, r.Kept)
	}
}

// What .env gives stays: variables made of others, and those that a service has
// by env_file. Secrets do not come along, however they are written.
func TestDotEnvIsKept(t *testing.T) {
	env := "BASE=/srv\nDATA=${BASE}/d\nTZ=Europe/Berlin\nADMIN_TOKEN=ghp_0123456789abcdefghijklmnopqrstuvwxyzAB\n"
	for name, test := range map[string]struct{ extra, want string }{
		"interpolated": {"", "DATA='/srv/d'\n"},
		"env_file":     {"    env_file: .env\n", "BASE=/srv\nDATA=${BASE}/d\nTZ=Europe/Berlin\n"},
	} {
		t.Run(name, func(t *testing.T) {
			compose := "services:\n  a:\n    image: x:1\n    volumes: [\"${DATA}:/data\"]\n" + test.extra
			results, problems := importer.Import([]importer.Input{{
				Name: "a", File: "compose.yaml", Content: []byte(compose), Beside: fstest.MapFS{".env": {Data: []byte(env)}},
			}})
			if problems.Failed() {
				t.Fatal(problems)
			}
			if got := string(results[0].Files[".env"]); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// A volume that op inject writes into holds more than its output.
func TestOpInjectKeepsVolumes(t *testing.T) {
	const compose = `services:
  secrets:
    image: 1password/op:2.30.3
    command: sh -c "op inject -i /tpl/a.tpl -o /out/a.ini && op inject -i /tpl/b.tpl -o /out/b.ini"
    volumes: ["./tpl:/tpl:ro", "appdata:/out"]
  app:
    image: x:1
    volumes: ["appdata:/config"]
volumes: {appdata: {}}
`
	results, problems := importer.Import([]importer.Input{{Name: "a", File: "compose.yaml", Content: []byte(compose), Beside: fstest.MapFS{
		"tpl/a.tpl": {Data: []byte("a = {{ op://v/i/a }}\n")}, "tpl/b.tpl": {Data: []byte("b = {{ op://v/i/b }}\n")},
	}}})
	if problems.Failed() {
		t.Fatal(problems)
	}
	got := string(results[0].Stack)
	for _, want := range []string{"appdata:/config", "a.tpl:/config/a.ini", "b.tpl:/config/b.ini"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, "1password/op") {
		t.Errorf("the job is left:\n%s", got)
	}
}

// FuzzImport imports whatever comes, alone and with the file of the ingress.
// It never panics, and what comes of a file that loads as it is loads too.
func FuzzImport(f *testing.F) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) == 0 {
		f.Fatal("no cases", err)
	}
	for _, file := range cases {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var env []byte
		for _, in := range archive.Files {
			if strings.HasSuffix(in.Name, "/.env") {
				env = in.Data
			}
		}
		for _, in := range archive.Files {
			if strings.HasSuffix(in.Name, "/compose.yaml") {
				f.Add(in.Data, env)
			}
		}
	}
	for _, small := range []string{
		"services: {a: {image: x:1, deploy: {labels: {caddy: a.example.com, caddy.reverse_proxy: \"{{upstreams 80}}\"}}, networks: [proxy]}}\nnetworks: {proxy: {external: true}}\n",
		"x: &x\n  deploy: &d\n    labels: [caddy=h.example.com, \"caddy.reverse_proxy={{upstreams}}\"]\nservices:\n  a:\n    <<: *x\n    image: x:1\n  b: {image: y:1, deploy: *d}\n",
		"services:\r\n  a:\r\n    image: x:1 # why\r\n    labels:\r\n      caddy.: a\r\n      caddy..b: c\r\n      caddy: ''\r\n",
		"\xef\xbb\xbfservices:\n  a:\n    image: !!str 1\n    environment: [A, B=, =c, \"D=${E:-f}}\"]\n    depends_on: {a: {}}\n",
		"services:\n  p: {image: tecnativa/docker-socket-proxy, environment: {CONTAINERS: 1}}\n  a:\n    image: x:1\n    environment: {DOCKER_HOST: tcp://p:2375}\n",
		"services:\n  j: {image: 1password/op:2, command: inject -i /t/file -o /o/.env, volumes: [.:/t, .:/o]}\n  a: {image: x:1, env_file: .env}\n",
		"name: A b\nservices:\n  ? a\n  : image: |\n      x:1\n    secrets: [s, {source: s, target: t}]\nsecrets: {s: {file: file}}\n",
	} {
		f.Add([]byte(small), []byte("E=f\nTOKEN=op://a/b/c\n"))
	}
	f.Fuzz(func(t *testing.T, content, env []byte) {
		if len(content) > 16<<10 || len(env) > 4<<10 {
			return
		}
		in := importer.Input{Name: "fuzzed", File: "compose.yaml", Content: content, Beside: fstest.MapFS{
			".env": {Data: env}, "file": {Data: env}, ".env.tpl": {Data: env},
		}}
		ingress := importer.Input{Name: "edge", File: "edge.yaml", Content: []byte(edge), Beside: fstest.MapFS{}}
		results, problems := importer.Import([]importer.Input{in, ingress})
		if problems.Failed() {
			return
		}
		if results[0].Name == "edge" {
			return
		}
		cluster := importer.Cluster(results, "fuzzed")
		before := rulesBroken(t, cluster, results[1].Stack, content, in.Beside)
		if len(before) > 0 {
			return
		}
		beside := fstest.MapFS{}
		for name, data := range results[0].Files {
			beside[name] = &fstest.MapFile{Data: data}
		}
		after := rulesBroken(t, cluster, results[1].Stack, results[0].Stack, beside)
		for _, p := range after {
			t.Errorf("%s\nfrom\n%s\ncame\n%s\nand\n%s", p, content, results[0].Stack, cluster)
		}
		if again, _ := importer.Import([]importer.Input{in, ingress}); !bytes.Equal(again[0].Stack, results[0].Stack) {
			t.Error("a second run gives other bytes")
		}
	})
}

const edge = `services:
  caddy:
    image: lucaslorentz/caddy-docker-proxy:2.9
    networks: [proxy]
    environment: {CADDY_INGRESS_NETWORKS: proxy}
    deploy:
      labels:
        caddy_1: (auth)
        caddy_1.forward_auth: "{args[0]} http://authentik_server:9000"
        caddy_1.forward_auth.uri: /outpost.goauthentik.io/auth/caddy
networks:
  proxy: {external: true}
`

// rulesBroken loads a project of two stacks, and returns the first problem of
// each rule.
func rulesBroken(t *testing.T, cluster, ingress, stack []byte, beside fs.FS) map[string]problem.Problem {
	t.Helper()
	dir := t.TempDir()
	put(t, dir, spec.ClusterFile, cluster)
	put(t, dir, "edge/stack.yaml", ingress)
	put(t, dir, "fuzzed/stack.yaml", stack)
	if err := os.CopyFS(filepath.Join(dir, "fuzzed"), beside); err != nil {
		t.Fatal(err)
	}
	_, problems := spec.Load(t.Context(), dir, spec.Options{})
	broken := map[string]problem.Problem{}
	for _, p := range slices.Backward(problems) {
		if p.Severity == problem.Error {
			broken[p.Rule] = p
		}
	}
	return broken
}

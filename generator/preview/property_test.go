package preview_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"skep/generator/bundle"
	"skep/generator/expand"
	"skep/generator/preview"
	"skep/generator/spec"
	"skep/generator/stack"
)

// parts are lines of a service; a fuzzer picks some of them.
var parts = []string{
	`x-ingress: {host: app, port: 80}`,
	`x-ingress: [{host: "@", port: 80}, {host: "*", port: 80}, {host: "*.api", port: 80}, {host: a.b, port: 80, paths: ["/x"]}]`,
	`x-ingress: {host: www, zone: public, port: 80, listen: 8443}`,
	`x-uses: [postgres]`,
	`x-uses: [proxy_network]`,
	`x-egress: true`,
	`x-metrics: {port: 9090}`,
	`x-homepage: {href: "https://app.in.example.com"}`,
	`x-monitor: {url: "https://app.in.example.com"}`,
	`x-pin: node1`,
	`x-docker-api: [containers]`,
	`ports: ["8080:80"]`,
	`container_name: original`,
	`hostname: original`,
	`volumes: ["data:/data", "named:/named", "tmp:/tmp"]`,
	`volumes: ["/srv/app:/data"]`,
	`volumes: ["/srv/app:/data:ro", "bound:/bound:ro"]`,
	`volumes: ["bound:/bound"]`,
	`volumes: ["taken:/taken:ro"]`,
	`networks: [default, lan]`,
	`networks: {default: {aliases: [alias]}, back: {aliases: [alias]}, lan: {aliases: [alias]}}`,
	`networks: [back]`,
	`environment: {TOKEN: "op://previews/app/token"}`,
	`environment: {TOKEN: "op://homelab/app/token"}`,
	`environment: {DSN_FILE: "postgres://u:{{ op://previews/app/token }}@db", URL: "https://app.in.example.com"}`,
	`x-files: [{content: "x", target: /x}, {content: "{{ op://previews/app/token }}", target: /y}]`,
	`configs: [inline, theirs]`,
	`configs: [inline]`,
	`secrets: [old]`,
	`labels: {caddy: app.in.example.com, kuma.x.http.name: x}`,
	`deploy: {labels: {caddy_1: app.in.example.com}}`,
	`deploy: {labels: {homepage.href: "https://app.in.example.com", mine: "1"}}`,
	`x-job: {before: [s2]}`,
}

const around = `
networks:
  lan: {external: true, name: %s}
  back: {internal: true, ipam: {config: [{subnet: 10.9.9.0/24}]}}
volumes:
  data: {}
  tmp: {labels: {a: b}}
  named: {name: app-named}
  taken: {external: true}
  bound: {name: bound, driver_opts: {type: none, o: "bind,ro", device: /srv/bound}}
configs: {inline: {content: x}, theirs: {external: true}}
secrets: {old: {external: true}}
`

// project builds one out of bytes: one that says which shared network, then
// four for the parts of each of three services.
func project(t *testing.T, choice []byte, allow bool) string {
	dir := t.TempDir()
	cluster := "name: test\nnodes: [node1]\nmetrics: metrics\nzones: {public: {domain: example.com}, internal: {domain: in.example.com}}\n" +
		"ingress: {default: {zone: internal}}\nnetworks: {postgres: {}, metrics: {}, lan: {}}\n"
	if allow {
		cluster += "previews: {uses: [postgres, lan], secrets: [op://previews]}\n"
	}
	write(t, filepath.Join(dir, "cluster.yaml"), []byte(cluster))
	write(t, filepath.Join(dir, "ingress/stack.yaml"), []byte("name: ingress\nservices: {caddy: {image: \"example.org/i:1\"}}\n"))
	var text strings.Builder
	text.WriteString("name: app\nservices:\n")
	next := func() int {
		if len(choice) == 0 {
			return 0
		}
		b := choice[0]
		choice = choice[1:]
		return int(b)
	}
	shared := []string{"lan", "postgres", "proxy_network", "metrics"}[next()%4]
	for i := range 3 {
		fmt.Fprintf(&text, "  s%d:\n    image: example.org/s:1\n", i)
		keys := map[string]bool{}
		for range 4 {
			part := parts[next()%len(parts)]
			key, _, _ := strings.Cut(part, ":")
			if !keys[key] {
				keys[key] = true
				fmt.Fprintf(&text, "    %s\n", part)
			}
		}
	}
	fmt.Fprintf(&text, around, shared)
	write(t, filepath.Join(dir, "app/stack.yaml"), []byte(text.String()))
	return dir
}

// FuzzNames: whatever is previewed, nothing that it names in the Swarm belongs
// to an original, except the shared networks that the cluster file allows.
func FuzzNames(f *testing.F) {
	for i := range byte(len(parts)) {
		f.Add("pr-12", []byte{i, i, i + 1, i + 2, i + 3, i + 5, i + 8, i + 13}, true)
	}
	f.Add("p", []byte{2, 0, 3, 6, 14}, false)
	f.Add("a-preview-name-of-20", []byte{0, 1, 20, 24, 25, 19, 21}, true)
	f.Fuzz(func(t *testing.T, name string, choice []byte, allow bool) {
		previewed, err := stack.ParsePreviewName(name)
		if err != nil {
			return
		}
		c, problems := spec.Load(t.Context(), project(t, choice, allow), spec.Options{})
		if c == nil || problems.Failed() {
			return
		}
		out, problems := preview.Add(c, preview.Options{Name: previewed, Stacks: []stack.Name{"app"}, Expires: expires})
		if problems.Failed() {
			return
		}
		b, err := expand.Expand(out)
		if err != nil {
			t.Fatal(err)
		}
		allowed := map[string]bool{"network proxy_network": true}
		if allow {
			allowed["network postgres"], allowed["network lan"] = true, true
		}
		theirs := map[string]bool{}
		var mine map[string]bool
		for _, s := range b.Stacks {
			if s.Name == preview.StackName(previewed, "app") {
				mine = names(s)
			} else {
				maps.Copy(theirs, names(s))
			}
		}
		for _, n := range slices.Sorted(maps.Keys(mine)) {
			if theirs[n] && !allowed[n] {
				t.Errorf("the preview names %s, which is an original's", n)
			}
		}
		for _, z := range b.Zones {
			owners := map[string]string{}
			for _, r := range z.Records {
				stackOf, _, _ := strings.Cut(r.Owner, "/")
				if first, ok := owners[r.Name]; ok && first != stackOf {
					t.Errorf("%s is a record of %s and of %s", r.Name, first, stackOf)
				}
				owners[r.Name] = stackOf
			}
		}
	})
}

// names is what a stack has or uses in the Swarm. The names by which it answers
// on a network are the network's.
func names(s *bundle.Stack) map[string]bool {
	out := map[string]bool{}
	content := s.Compose()
	section := func(key string) map[string]any {
		m, _ := content[key].(map[string]any)
		return m
	}
	full := func(key string, def any) string {
		m, _ := def.(map[string]any)
		if name, ok := m["name"].(string); ok {
			return name
		}
		if m["external"] == true {
			return key
		}
		return string(s.Name) + "_" + key
	}
	networks := map[string]string{}
	for key, def := range section("networks") {
		networks[key] = full(key, def)
		out["network "+networks[key]] = true
		m, _ := def.(map[string]any)
		if ipam, ok := m["ipam"]; ok {
			out[fmt.Sprint("subnet ", ipam)] = true
		}
	}
	for _, kind := range []string{"volumes", "configs", "secrets"} {
		for key, def := range section(kind) {
			out[kind+" "+full(key, def)] = true
		}
	}
	for name, def := range section("services") {
		service, _ := def.(map[string]any)
		out["service "+string(s.Name)+"_"+name] = true
		attached, _ := service["networks"].(map[string]any)
		for key, config := range attached {
			out["name "+name+" on "+networks[key]] = true
			m, _ := config.(map[string]any)
			for _, alias := range list(m["aliases"]) {
				out[fmt.Sprint("name ", alias, " on ", networks[key])] = true
			}
		}
		for _, v := range list(service["volumes"]) {
			if m, _ := v.(map[string]any); m["type"] == "bind" && m["read_only"] != true {
				out[fmt.Sprint("path ", m["source"])] = true
			}
		}
		for _, p := range list(service["ports"]) {
			out[fmt.Sprint("port ", p)] = true
		}
		for key, value := range content.Labels(stack.ServiceName(name)) {
			word, _, dotted := strings.Cut(key, ".")
			if (word == "caddy" || strings.HasPrefix(word, "caddy_")) && !dotted {
				out["site "+value] = true
			}
			if word == "kuma" || word == "homepage" {
				out["dashboard "+key] = true
			}
		}
	}
	return out
}

func list(v any) []any {
	out, _ := v.([]any)
	return out
}

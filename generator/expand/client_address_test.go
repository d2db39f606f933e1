package expand_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"

	"skep/generator/bundle"
)

// A proxy that is no tunnel is not believed about Cloudflare's header.
func TestClientAddress(t *testing.T) {
	const tunnel = "tunnel: {id: 6ff42ae2-765d-4adf-8112-31c55c1551ef, service: cloudflared/cloudflared}\n"
	for name, c := range map[string]struct {
		ranges, tunnel, sources, headers string
		strict                           bool
	}{
		"nobody":                   {"", "", "", "", false},
		"the tunnel":               {"", tunnel, "skep_service cloudflared_cloudflared", "Cf-Connecting-Ip", false},
		"a proxy":                  {"192.0.2.0/24", "", "static 192.0.2.0/24", "", true},
		"a tunnel that is outside": {"192.0.2.7", "tunnel: {id: 6ff42ae2-765d-4adf-8112-31c55c1551ef}\n", "static 192.0.2.7/32", "", true},
		"the tunnel and a proxy":   {"192.0.2.0/24", tunnel, "skep_service cloudflared_cloudflared 192.0.2.0/24", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write := func(name, text string) { writeFile(t, filepath.Join(dir, name), []byte(text)) }
			write("cluster.yaml", "name: test\nzones: {z: {domain: example.com}}\ningress: {trusted_proxies: ["+c.ranges+"]}\n"+c.tunnel)
			write("ingress/stack.yaml", "services: {caddy: {image: \"ingress:1\"}}\n")
			write("cloudflared/stack.yaml", "services: {cloudflared: {image: \"cloudflared:1\"}}\n")
			b := generate(t, dir)
			i := slices.IndexFunc(b.Files, func(f bundle.File) bool { return f.Path == "ingress.yaml" })
			if i < 0 {
				t.Fatal("there is no ingress")
			}
			var file struct {
				Services map[string]struct {
					Deploy struct{ Labels map[string]string }
				}
			}
			if err := yaml.Unmarshal(b.Files[i].Content, &file); err != nil {
				t.Fatal(err)
			}
			labels := file.Services["caddy"].Deploy.Labels
			if got := labels["caddy_0.servers.trusted_proxies"]; got != c.sources {
				t.Errorf("sources %q, want %q", got, c.sources)
			}
			if got := labels["caddy_0.servers.client_ip_headers"]; got != c.headers {
				t.Errorf("headers %q, want %q", got, c.headers)
			}
			if _, strict := labels["caddy_0.servers.trusted_proxies_strict"]; strict != c.strict {
				t.Errorf("strict is %v", strict)
			}
		})
	}
}

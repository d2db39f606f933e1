package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"skep/networks"
	"skep/services/dns/dnstest"
)

// previewed stands in for a Swarm with a service of a preview that has two sites.
func previewed(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/services") {
			fmt.Fprint(w, `[{"ID": "1", "Spec": {"Name": "pr-1-app_web", "Labels": {"com.docker.stack.namespace": "pr-1-app",
				"caddy_0": "pr-1-app.example.com", "caddy_1": "https://pr-1-two.example.com"}}}]`)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// The scripts of testdata/dns run against a fake of Cloudflare's API.
func TestDNSScripts(t *testing.T) {
	const tunnel = "6ff42ae2-765d-4adf-8112-31c55c1551ef"
	type key struct{}
	fake := func(ts *testscript.TestScript) *dnstest.Cloudflare { return ts.Value(key{}).(*dnstest.Cloudflare) }
	testscript.Run(t, testscript.Params{
		Dir: "testdata/dns",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "edit": edit,
			// lists [WANT] says how often records were listed since the last time.
			"lists": func(ts *testscript.TestScript, _ bool, args []string) {
				n := 0
				for _, request := range fake(ts).Requests() {
					if strings.HasPrefix(request, "GET ") && strings.HasSuffix(request, "/dns_records") {
						n++
					}
				}
				before, _ := strconv.Atoi(ts.Getenv("LISTS"))
				if len(args) > 0 && args[0] != strconv.Itoa(n-before) {
					ts.Fatalf("records were listed %d times", n-before)
				}
				ts.Setenv("LISTS", strconv.Itoa(n))
			},
			// byhand NAME TYPE CONTENT makes a record as a person does.
			"byhand": func(ts *testscript.TestScript, _ bool, args []string) {
				fake(ts).Insert(t, networks.Record{Name: args[0], Type: networks.RecordType(args[1]), Content: args[2]}, "")
			},
			// tunnel ACCOUNT prints the tunnel's configuration.
			"tunnel": func(ts *testscript.TestScript, _ bool, args []string) {
				config, _ := fake(ts).TunnelConfig(args[0], tunnel)
				var out bytes.Buffer
				ts.Check(json.Indent(&out, []byte(config), "", "  "))
				ts.Stdout().Write(append(out.Bytes(), '\n'))
			},
		},
		Setup: func(e *testscript.Env) error {
			f := dnstest.NewCloudflare(t, "example.com")
			f.AddTunnel("local", tunnel, "local", `{"ingress":[{"service":"http_status:404"}]}`)
			f.AddTunnel("previewed", tunnel, "cloudflare", `{"ingress":[
				{"hostname":"pr-1-app.example.com","service":"https://ingress_caddy"},{"hostname":"old.example.com","service":"https://ingress_caddy"},
				{"service":"http_status:404"}]}`)
			f.AddTunnel("remote", tunnel, "cloudflare", `{"ingress":[
				{"hostname":"old.example.com","service":"https://ingress_caddy","originRequest":{"originServerName":"old.example.com"}},
				{"hostname":"ssh.example.com","service":"ssh://host:22"},
				{"service":"http_status:503"}],"originRequest":{"connectTimeout":10}}`)
			f.AddTunnel("many", tunnel, "cloudflare", `{"ingress":[
				{"hostname":"a.example.com","service":"https://ingress_caddy"},{"hostname":"b.example.com","service":"https://ingress_caddy"},
				{"hostname":"c.example.com","service":"https://ingress_caddy"},{"service":"http_status:404"}]}`)
			e.Values[key{}] = f
			e.Setenv("GORACE", os.Getenv("GORACE"))
			e.Setenv("CLOUDFLARE_API_URL", f.URL)
			engine := strings.TrimPrefix(previewed(t), "http://")
			e.Setenv("DOCKER_HOST", "tcp://"+engine)
			e.Setenv("ENGINE", engine)
			return nil
		},
	})
}

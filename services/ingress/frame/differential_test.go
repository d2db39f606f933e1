package frame

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/lucaslorentz/caddy-docker-proxy/v2/config"
	"github.com/lucaslorentz/caddy-docker-proxy/v2/docker"
	"github.com/lucaslorentz/caddy-docker-proxy/v2/generator"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"
	"go.uber.org/zap"

	"skep/services/ingress/label"
)

// TestSameAsCaddyDockerProxy feeds the same labels to caddy-docker-proxy's
// generator and to ours, and compares what Caddy would be told.
func TestSameAsCaddyDockerProxy(t *testing.T) {
	for name, services := range grammar {
		t.Run(name, func(t *testing.T) {
			state := stateOf(services)
			want := theirs(t, state)
			got := ours(t, state)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got\n%s\nwant\n%s", indent(got), indent(want))
			}
		})
	}
}

func TestContainersAndConfigsAsCaddyDockerProxy(t *testing.T) {
	state := stateOf(map[string]string{"web": "caddy: a.example.com\ncaddy.handle: /s/*\ncaddy.handle.reverse_proxy: {{upstreams 80}}"})
	box := container.Summary{ID: "c1", Names: []string{"/box"}, Labels: map[string]string{
		"caddy": "a.example.com", "caddy.handle": "/c/*", "caddy.handle.reverse_proxy": "{{upstreams 81}} {{(index .Names 0) | trimPrefix `/`}}:82",
	}}
	box.NetworkSettings = &container.NetworkSettingsSummary{Networks: map[string]*network.EndpointSettings{
		"proxy": {NetworkID: "n1", IPAddress: netip.MustParseAddr("10.0.0.3")}, "other": {NetworkID: "n2", IPAddress: netip.MustParseAddr("10.1.0.3")},
	}}
	state.Containers = []container.Summary{box}
	var file swarm.Config
	file.ID, file.Spec.Name, file.Spec.Labels = "f1", "base", map[string]string{"caddy": ""}
	file.Spec.Data = []byte("{\n\temail a@example.com\n}\n(s) {\n\theader A 1\n}\nb.example.com {\n\timport s\n\trespond \"two words\"\n}\n")
	state.Configs = []swarm.Config{file}
	if want, got := theirs(t, state), ours(t, state); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", indent(got), indent(want))
	}
}

// grammar is every form of a label: services of a stack by name, their labels
// one a line.
var grammar = map[string]map[string]string{
	"one service":          {"web": "caddy: a.example.com\ncaddy.reverse_proxy: {{upstreams 80}}"},
	"no upstream":          {"idle": "caddy: a.example.com\ncaddy.reverse_proxy: {{upstreams 80}}"},
	"two tasks":            {"two": "caddy: a.example.com\ncaddy.reverse_proxy: {{upstreams http 80}}"},
	"https upstream":       {"web": "caddy: a.example.com\ncaddy.reverse_proxy: {{upstreams https 443}}\ncaddy.reverse_proxy.transport: http\ncaddy.reverse_proxy.transport.tls_insecure_skip_verify:"},
	"h2c upstream":         {"web": "caddy: a.example.com\ncaddy.reverse_proxy: {{upstreams h2c 50051}}"},
	"path and upstream":    {"web": "caddy: a.example.com\ncaddy.reverse_proxy: /api/* {{upstreams 80}}"},
	"several addresses":    {"web": "caddy: a.example.com, b.example.com\ncaddy.respond: hi"},
	"http and https":       {"web": "caddy: http://a.example.com https://a.example.com\ncaddy.respond: hi"},
	"another port":         {"web": "caddy: a.example.com:8443\ncaddy.tls: internal\ncaddy.respond: hi"},
	"port alone":           {"web": "caddy: :8080\ncaddy.respond: hi"},
	"wildcard":             {"web": "caddy: *.example.com\ncaddy.respond: any", "one": "caddy: a.example.com\ncaddy.respond: one"},
	"catch-all":            {"web": "caddy: http://\ncaddy.respond: any", "one": "caddy: http://a.example.com\ncaddy.respond: one"},
	"upper case":           {"web": "caddy: A.Example.COM\ncaddy.respond: hi"},
	"numbered sites":       {"web": "caddy_0: a.example.com\ncaddy_0.respond: a\ncaddy_1: b.example.com\ncaddy_1.respond: b"},
	"numbered directives":  {"web": "caddy: a.example.com\ncaddy.header_0: A 1\ncaddy.header_1: B 2\ncaddy.respond: hi"},
	"ordered directives":   {"web": "caddy: a.example.com\ncaddy.route.0_header: A 1\ncaddy.route.1_respond: hi\ncaddy.route.2_header: B 1"},
	"order of handles":     {"web": "caddy: a.example.com\ncaddy.1_handle: /a*\ncaddy.1_handle.respond: a\ncaddy.0_handle: /b*\ncaddy.0_handle.respond: b\ncaddy.handle.respond: c"},
	"handle_path":          {"web": "caddy: a.example.com\ncaddy.handle_path: /api/*\ncaddy.handle_path.reverse_proxy: {{upstreams 80}}"},
	"named matcher":        {"web": "caddy: a.example.com\ncaddy.@api.path: /api/*\ncaddy.@api.method: GET POST\ncaddy.respond: @api yes 200\ncaddy.reverse_proxy: {{upstreams 80}}"},
	"matcher in a line":    {"web": "caddy: a.example.com\ncaddy.@x: path /x\ncaddy.respond: @x no 403"},
	"matcher expression":   {"web": "caddy: a.example.com\ncaddy.@x: expression `{path}.startsWith(\"/x\")`\ncaddy.respond: @x no 403"},
	"escaped dot":          {"web": "caddy: a.example.com\ncaddy.header.X-\\.Y: 1\ncaddy.respond: hi"},
	"quotes":               {"web": "caddy: a.example.com\ncaddy.respond: \"hello world\" 200"},
	"backticks":            {"web": "caddy: a.example.com\ncaddy.respond: `{\"a\": \"b\"}` 200"},
	"placeholder":          {"web": "caddy: a.example.com\ncaddy.redir: https://b.example.com{uri} permanent"},
	"snippet":              {"ingress": "caddy_0: (s)\ncaddy_0.header: A {args[0]}\ncaddy_1: (t)\ncaddy_1.import: s 2", "web": "caddy: a.example.com\ncaddy.import: s 1\ncaddy.import_1: t\ncaddy.respond: hi"},
	"snippet with tls":     {"ingress": "caddy: (s)\ncaddy.tls: internal\ncaddy.log.output: stdout", "web": "caddy: a.example.com\ncaddy.import: s\ncaddy.respond: hi"},
	"named route":          {"ingress": "caddy: &(r)\ncaddy.respond: named", "web": "caddy: a.example.com\ncaddy.invoke: r"},
	"global options":       {"ingress": "caddy.email: a@example.com\ncaddy.http_port: 8080\ncaddy.servers.trusted_proxies: static 10.0.0.0/8\ncaddy.order: rate_limit before basic_auth", "web": "caddy: a.example.com\ncaddy.respond: hi"},
	"two global blocks":    {"ingress": "caddy_0.email: a@example.com\ncaddy_1.grace_period: 3s", "web": "caddy: a.example.com\ncaddy.respond: hi"},
	"admin off":            {"ingress": "caddy.admin: off", "web": "caddy: a.example.com\ncaddy.respond: hi"},
	"auto_https off":       {"ingress": "caddy.auto_https: off", "web": "caddy: a.example.com\ncaddy.respond: hi"},
	"merge of upstreams":   {"web": "caddy: a.example.com\ncaddy.reverse_proxy: {{upstreams 80}}", "more": "caddy: a.example.com\ncaddy.reverse_proxy: {{upstreams 81}}"},
	"merge of paths":       {"web": "caddy: a.example.com\ncaddy.handle: /a/*\ncaddy.handle.reverse_proxy: {{upstreams 80}}", "more": "caddy: a.example.com\ncaddy.handle: /b/*\ncaddy.handle.reverse_proxy: {{upstreams 81}}"},
	"merge with imports":   {"ingress": "caddy_0: (s)\ncaddy_0.header: A 1\ncaddy_1: (t)\ncaddy_1.header: B 1", "web": "caddy: a.example.com\ncaddy.import: s\ncaddy.handle: /a/*\ncaddy.handle.reverse_proxy: {{upstreams 80}}", "more": "caddy: a.example.com\ncaddy.import: t\ncaddy.respond: hi"},
	"error routes":         {"web": "caddy: a.example.com\ncaddy.handle_errors: 502 503\ncaddy.handle_errors.respond: sorry 503\ncaddy.reverse_proxy: {{upstreams 80}}"},
	"error routes of two":  {"web": "caddy: a.example.com\ncaddy.handle_errors.respond: a\ncaddy.respond: a", "more": "caddy: b.example.com\ncaddy.handle_errors.respond: b\ncaddy.respond: b"},
	"forward auth":         {"web": "caddy: a.example.com\ncaddy.forward_auth: auth:9000\ncaddy.forward_auth.uri: /check\ncaddy.forward_auth.copy_headers: A>B C\ncaddy.reverse_proxy: {{upstreams 80}}"},
	"rate limit":           {"web": "caddy: a.example.com\ncaddy.rate_limit.zone: z\ncaddy.rate_limit.zone.key: {client_ip}\ncaddy.rate_limit.zone.events: 1\ncaddy.rate_limit.zone.window: 1m\ncaddy.respond: hi"},
	"tls files":            {"web": "caddy: a.example.com\ncaddy.tls: /cert.pem /key.pem\ncaddy.respond: hi"},
	"tls dns":              {"web": "caddy: a.example.com\ncaddy.tls.dns: cloudflare {env.TOKEN}\ncaddy.respond: hi", "more": "caddy: b.example.com\ncaddy.tls.dns: cloudflare {env.TOKEN}\ncaddy.respond: hi"},
	"tls mixed":            {"web": "caddy: a.example.com\ncaddy.tls: internal\ncaddy.respond: hi", "more": "caddy: b.example.com\ncaddy.respond: hi", "files": "caddy: c.example.com\ncaddy.tls: /c.pem /k.pem\ncaddy.respond: c"},
	"bind":                 {"web": "caddy: a.example.com\ncaddy.bind: 10.0.0.1\ncaddy.respond: hi", "more": "caddy: b.example.com\ncaddy.respond: hi"},
	"log":                  {"web": "caddy: a.example.com\ncaddy.log.output: stderr\ncaddy.log.level: ERROR\ncaddy.respond: hi", "more": "caddy: b.example.com\ncaddy.respond: hi"},
	"acme server":          {"web": "caddy: a.example.com\ncaddy.tls: internal\ncaddy.acme_server.ca: inner", "more": "caddy: b.example.com\ncaddy.respond: hi"},
	"file server":          {"web": "caddy: a.example.com\ncaddy.root: * /srv\ncaddy.file_server.browse:\ncaddy.encode: zstd gzip"},
	"php":                  {"web": "caddy: a.example.com\ncaddy.php_fastcgi: {{upstreams 9000}}\ncaddy.root: * /srv"},
	"template data":        {"web": "caddy: {{.Spec.Name}}.example.com\ncaddy.respond: {{upper .Spec.Name}}"},
	"sprig":                {"web": "caddy: a.example.com\ncaddy.respond: \"{{ list 1 2 3 | join \"-\" }}\""},
	"other labels":         {"web": "caddy: a.example.com\ncaddyx.respond: no\ncaddy_x: no\ntraefik.enable: true\ncaddy.respond: hi"},
	"path in address":      {"web": "caddy: a.example.com/x*\ncaddy.respond: hi"},
	"site without content": {"web": "caddy: a.example.com"},
	"network of its own":   {"other": "caddy: a.example.com\ncaddy_ingress_network: other\ncaddy.reverse_proxy: {{upstreams 80}}"},
	"stack of services": {
		"ingress": "caddy_0.email: a@example.com\ncaddy_1: (sec)\ncaddy_1.header.-Server:\ncaddy_1.header.?X-Frame-Options: DENY",
		"web":     "caddy: a.example.com\ncaddy.import: sec\ncaddy.handle_0: /api/*\ncaddy.handle_0.reverse_proxy: {{upstreams 80}}\ncaddy.handle_1.respond: hi",
		"two":     "caddy: b.example.com\ncaddy.import: sec\ncaddy.reverse_proxy: {{upstreams 80}}\ncaddy.tls: internal",
		"idle":    "caddy: a.example.com\ncaddy.import: sec\ncaddy.handle: /idle/*\ncaddy.handle.reverse_proxy: {{upstreams 80}}",
	},
}

// stateOf is a Swarm whose services have these labels. Every service has one
// task, but "two" has two and "idle" none; "other" is on another network too.
func stateOf(services map[string]string) label.State {
	var s label.State
	s.Networks = []network.Summary{{Network: network.Network{ID: "n1", Name: "proxy"}}, {Network: network.Network{ID: "n2", Name: "other"}}}
	for i, name := range sorted(services) {
		labels := map[string]string{"com.docker.stack.namespace": "stack"}
		for line := range strings.Lines(services[name]) {
			key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
			labels[key] = strings.TrimSpace(value)
		}
		var service swarm.Service
		service.ID, service.Spec.Name, service.Spec.Labels = "id-"+name, name, labels
		s.Services = append(s.Services, service)
		tasks := map[string]int{"two": 2, "idle": 0}
		n, ok := tasks[name]
		if !ok {
			n = 1
		}
		for j := range n {
			task := swarm.Task{ID: fmt.Sprint(name, j), ServiceID: service.ID, DesiredState: swarm.TaskStateRunning}
			task.Status.State = swarm.TaskStateRunning
			for k, net := range s.Networks {
				a := swarm.NetworkAttachment{Addresses: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.%d/24", k, i, 10+j))}}
				a.Network.ID, a.Network.Spec.Name = net.ID, net.Name
				task.NetworksAttachments = append(task.NetworksAttachments, a)
			}
			s.Tasks = append(s.Tasks, task)
		}
	}
	return s
}

func theirs(t *testing.T, s label.State) object {
	t.Helper()
	options := &config.Options{LabelPrefix: "caddy", ControlledServersLabel: "none", ProxyServiceTasks: true, IngressNetworks: []string{"proxy"}}
	g := generator.CreateGenerator([]docker.Client{fakeClient{state: s}}, docker.CreateUtils(), options)
	text, _ := g.GenerateCaddyfile(zap.NewNop())
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(text, nil)
	if err != nil {
		t.Fatalf("caddy-docker-proxy: %v\n%s", err, text)
	}
	return normal(t, adapted, nil)
}

func ours(t *testing.T, s label.State) object {
	t.Helper()
	settings := label.Settings{Networks: []string{"proxy"}, Policy: label.Policy{Open: true}}
	sources := label.Sources(s, settings)
	var rendered []*label.Rendered
	for i := range sources {
		rendered = append(rendered, label.Render(&sources[i], settings.Policy))
	}
	plan := label.Assemble(rendered, nil, settings.Policy, time.Unix(0, 0), 0)
	for _, r := range plan.Refusals {
		t.Fatal(r)
	}
	adapter := Adapter{Policy: settings.Policy}
	var parts []*Part
	for _, site := range plan.Sites {
		part, refusal := adapter.Part(plan.Globals, site)
		if refusal != nil {
			t.Fatal(refusal)
		}
		parts = append(parts, part)
	}
	frame, err := Assemble(plan.Globals, parts, Options{NotFound: "none"})
	if err != nil {
		t.Fatal(err)
	}
	return normal(t, frame.JSON, parts)
}

type fakeClient struct {
	docker.Client
	state label.State
}

func (c fakeClient) Info(context.Context) (system.Info, error) {
	return system.Info{Swarm: swarm.Info{LocalNodeState: swarm.LocalNodeStateActive}}, nil
}

func (c fakeClient) NetworkList(context.Context, client.NetworkListOptions) ([]network.Summary, error) {
	return c.state.Networks, nil
}

func (c fakeClient) ServiceList(context.Context, client.ServiceListOptions) ([]swarm.Service, error) {
	return c.state.Services, nil
}

func (c fakeClient) ContainerList(context.Context, client.ContainerListOptions) ([]container.Summary, error) {
	return c.state.Containers, nil
}

func (c fakeClient) ConfigList(context.Context, client.ConfigListOptions) ([]swarm.Config, error) {
	return c.state.Configs, nil
}

func (c fakeClient) ConfigInspectWithRaw(_ context.Context, id string) (swarm.Config, []byte, error) {
	for _, one := range c.state.Configs {
		if one.ID == id {
			return one, nil, nil
		}
	}
	return swarm.Config{}, nil, fmt.Errorf("no config %s", id)
}

func (c fakeClient) TaskList(_ context.Context, o client.TaskListOptions) ([]swarm.Task, error) {
	var out []swarm.Task
	for _, task := range c.state.Tasks {
		if o.Filters["service"][task.ServiceID] {
			out = append(out, task)
		}
	}
	return out, nil
}

func (c fakeClient) Events(context.Context, client.EventsListOptions) (<-chan events.Message, <-chan error) {
	return nil, nil
}

func indent(v any) string {
	text, _ := json.MarshalIndent(v, "", "  ")
	return string(text)
}

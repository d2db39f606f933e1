package spec

import "strings"

// The types below are the file format. Their tags are the one source of the
// decoder's keys, of the JSON Schema and of the generated reference:
// `yaml` names the key, `doc` describes it, `enum`, `default` and `example`
// say what they say, and `required:"true"` marks what cannot be left out.

// stackKeys are the keys that Skep adds to the top level of a stack file.
type stackKeys struct {
	Tier   string            `yaml:"x-tier" doc:"Tier of the stack, one of the cluster file's tiers. Tiers are deployed in order." default:"the last tier" example:"application"`
	Waive  map[string]string `yaml:"x-waive" doc:"Checks that do not apply to any service of this stack: rule id to the reason why." example:"{missing-limits: measured, see issue 12}"`
	Extras map[string]any    `yaml:",rest"`
}

// serviceKeys are the keys that Skep adds to a service.
type serviceKeys struct {
	Ingress    ingressList       `yaml:"x-ingress" doc:"How people reach the service through the ingress: one route, or a list of routes." example:"{host: sonarr, port: 8989}"`
	Uses       stringList        `yaml:"x-uses" doc:"Shared networks of the cluster file that the service needs; its stack is deployed after the stacks that own them." example:"[postgres]"`
	Egress     bool              `yaml:"x-egress" doc:"The service calls out to the Internet. Stack networks are internal; this attaches the service to an overlay of its stack that is not." default:"false"`
	DockerAPI  *dockerAPI        `yaml:"x-docker-api" doc:"Parts of the Docker API that the service reads. It gets a docker proxy of its own and DOCKER_HOST." example:"[containers, events]"`
	Files      []file            `yaml:"x-files" doc:"Files beside the stack file that the service finds at a path. They become Swarm configs named by content, and secrets where they hold op:// references." example:"[\"prometheus.yml:/etc/prometheus/prometheus.yml\"]"`
	Job        *job              `yaml:"x-job" doc:"The service runs to completion before the services that it names. docker stack deploy runs it again at every deploy and waits for nothing, so make it idempotent." example:"{before: [server]}"`
	Pin        *pin              `yaml:"x-pin" doc:"Where the service must run: a node's host name, several nodes, or {label: name=value}, {role: manager}." example:"node1"`
	Homepage   *homepage         `yaml:"x-homepage" doc:"Link on the Homepage dashboard; false leaves it out. Routes get one by default." example:"{group: Media, icon: sonarr.png}"`
	Monitor    *monitor          `yaml:"x-monitor" doc:"Uptime check, as AutoKuma reads it; false leaves it out. Routes get one by default." example:"{path: /ping}"`
	Metrics    *metrics          `yaml:"x-metrics" doc:"Prometheus scrapes the service: a port, or {port, path}." example:"9090"`
	Entrypoint stringList        `yaml:"x-entrypoint" doc:"The command line that the image runs by itself (entrypoint, and command when the service sets none). Needed where a secret goes into a plain variable and images.lock does not know the image." example:"[/init]"`
	Waive      map[string]string `yaml:"x-waive" doc:"Checks that do not apply to this service: rule id to the reason why." example:"{unpinned-volume: the volume is on NFS}"`
}

type ingressList []ingress

// shorthand: one route stands for a list of one.
func (ingressList) shorthand(v any) any {
	if m, ok := v.(map[string]any); ok {
		return inPlace{m}
	}
	return v
}

type ingress struct {
	Host        string            `yaml:"host" doc:"Host name; a name without a dot is completed by the zone's domain, @ is the domain itself." required:"true" example:"sonarr"`
	Zone        string            `yaml:"zone" doc:"Zone of the cluster file that publishes the name." default:"ingress.default.zone"`
	Port        uint16            `yaml:"port" doc:"Port that the service listens on." required:"true" example:"8989"`
	Scheme      string            `yaml:"scheme" doc:"What the service speaks." enum:"http,https,h2c" default:"http"`
	Paths       stringList        `yaml:"paths" doc:"Paths of the host that go to this service, as Caddy matches them; without them it is the whole host." example:"[\"/api/*\"]"`
	Strip       string            `yaml:"strip" doc:"Path prefix taken off before the request reaches the service." example:"/auth/v1"`
	Auth        *auth             `yaml:"auth" doc:"Who may pass: sso, none, or {sso, bypass, reason}." default:"ingress.default.auth" example:"{sso: true, bypass: [\"/api/*\"]}"`
	Allow       stringList        `yaml:"allow" doc:"Client addresses that may pass (CIDR); all others get 403." default:"the zone's allow" example:"[10.0.0.0/8]"`
	Listen      uint16            `yaml:"listen" doc:"Port of the ingress, where it is not the standard one. It is published." example:"8443"`
	TLS         string            `yaml:"tls" doc:"Where the certificate comes from, instead of the zone's way." enum:"acme,acme-dns,origin,custom,internal,off"`
	Rate        *rate             `yaml:"rate" doc:"Requests that one client address may make: 100/1m, or {events, window}." example:"100/1m"`
	Body        byteSize          `yaml:"body" doc:"Largest request body." example:"10MB"`
	Stream      bool              `yaml:"stream" doc:"Pass every byte on at once (events, video)." default:"false"`
	Health      *health           `yaml:"health" doc:"Active health check of the upstream: a path, or {path, interval, timeout}." example:"/healthz"`
	Headers     *headers          `yaml:"headers" doc:"Headers set on the way to the service (request) and back (response); security: false leaves the security headers out."`
	Maintenance *maintenance      `yaml:"maintenance" doc:"Page (503 with Retry-After) while the service is away: true, false, or {retry_after, message}." default:"ingress.default.maintenance"`
	Caddy       map[string]string `yaml:"caddy" doc:"Raw caddy-docker-proxy labels of the site, without the leading caddy. - the way out." example:"{encode: gzip}"`
}

type auth struct {
	SSO    bool       `yaml:"sso" doc:"Forward authentication by the cluster's SSO provider."`
	Bypass stringList `yaml:"bypass" doc:"Paths that need no login: APIs with keys of their own, health checks." example:"[\"/api/*\"]"`
	Reason string     `yaml:"reason" doc:"Why the route goes without SSO." example:"Plex has its own login"`
}

func (auth) shorthand(v any) any {
	switch v {
	case true, "sso":
		return map[string]any{"sso": true}
	case false, "none":
		return map[string]any{"sso": false}
	}
	return v
}

type rate struct {
	Events int      `yaml:"events" doc:"Requests per window." required:"true" example:"100"`
	Window duration `yaml:"window" doc:"Length of the window." required:"true" example:"1m"`
}

func (rate) shorthand(v any) any {
	s, ok := v.(string)
	if !ok {
		return v
	}
	events, window, ok := strings.Cut(s, "/")
	if !ok {
		return v
	}
	return map[string]any{"events": number(events), "window": window}
}

type health struct {
	Path     string   `yaml:"path" doc:"Path that answers 2xx when the service is well." required:"true" example:"/healthz"`
	Interval duration `yaml:"interval" doc:"Time between checks." default:"30s"`
	Timeout  duration `yaml:"timeout" doc:"Longest wait for an answer." default:"5s"`
}

func (health) shorthand(v any) any {
	if s, ok := v.(string); ok {
		return map[string]any{"path": s}
	}
	return v
}

type headers struct {
	Security *bool             `yaml:"security" doc:"Security headers (HSTS, nosniff, frame and referrer policy)." default:"ingress.default.security"`
	Request  map[string]string `yaml:"request" doc:"Set on the way to the service; a name with a leading - is removed." example:"{X-Forwarded-Prefix: /app}"`
	Response map[string]string `yaml:"response" doc:"Set on the way back; a name with a leading - is removed." example:"{Cache-Control: no-store}"`
}

type maintenance struct {
	Off        bool     `yaml:"off" doc:"No page: the error goes to the client as it is."`
	RetryAfter duration `yaml:"retry_after" doc:"What Retry-After says." default:"30s"`
	Message    string   `yaml:"message" doc:"What the page says." default:"Back in a moment."`
}

func (maintenance) shorthand(v any) any {
	if on, ok := v.(bool); ok {
		return map[string]any{"off": !on}
	}
	return v
}

type dockerAPI struct {
	Read  stringList `yaml:"read" doc:"Sections that may be read. env_values, label_values, config_data and join_tokens show values that are hidden in answers otherwise." example:"[containers, events]"`
	Write stringList `yaml:"write" doc:"Endpoints that may be written, each by name." example:"[\"POST /services/{id}/update\"]"`
	Scope string     `yaml:"scope" doc:"Whose objects it sees: the whole cluster's, or those of its own stack alone." enum:"cluster,stack" default:"cluster"`
}

func (dockerAPI) shorthand(v any) any {
	if l, ok := v.([]any); ok {
		return map[string]any{"read": l}
	}
	return v
}

type file struct {
	Source  string `yaml:"source" doc:"Path beside the stack file." example:"prometheus.yml"`
	Content string `yaml:"content" doc:"The content itself, instead of a source."`
	Target  string `yaml:"target" doc:"Absolute path in the container." required:"true" example:"/etc/prometheus/prometheus.yml"`
	Mode    string `yaml:"mode" doc:"Permissions, octal." default:"0444" example:"0400"`
	UID     string `yaml:"uid" doc:"Owner, numeric."`
	GID     string `yaml:"gid" doc:"Group, numeric."`
}

func (file) shorthand(v any) any {
	s, ok := v.(string)
	if !ok {
		return v
	}
	source, target, ok := strings.Cut(s, ":")
	if !ok {
		return v
	}
	return map[string]any{"source": source, "target": target}
}

type job struct {
	Before stringList `yaml:"before" doc:"Services of the stack that start after the job has succeeded." example:"[server]"`
}

func (job) shorthand(v any) any {
	if v == true {
		return map[string]any{}
	}
	return v
}

type pin struct {
	Nodes stringList `yaml:"nodes" doc:"Host names; more than one needs the cluster file's nodes." example:"[node1]"`
	Label stringList `yaml:"label" doc:"Node labels that must match, name=value." example:"[disk=ssd]"`
	Role  string     `yaml:"role" doc:"Role of the node." enum:"manager,worker"`
}

func (pin) shorthand(v any) any {
	switch v.(type) {
	case string, []any:
		return map[string]any{"nodes": v}
	}
	return v
}

type homepage struct {
	Off         bool              `yaml:"off" doc:"No link."`
	Group       string            `yaml:"group" doc:"Group of the dashboard." default:"the stack's name"`
	Name        string            `yaml:"name" doc:"Name of the link." default:"the service's name"`
	Icon        string            `yaml:"icon" doc:"Icon, as Homepage names them." example:"sonarr.png"`
	Href        string            `yaml:"href" doc:"Where the link goes." default:"the first route"`
	Description string            `yaml:"description" doc:"A line about the service."`
	Weight      int               `yaml:"weight" doc:"Position in the group."`
	Widget      map[string]string `yaml:"widget" doc:"Homepage widget: its type, or its options." example:"sonarr"`
}

func (homepage) shorthand(v any) any {
	if on, ok := v.(bool); ok {
		return map[string]any{"off": !on}
	}
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	if name, ok := m["widget"].(string); ok {
		m["widget"] = map[string]any{"type": name}
	}
	return m
}

type monitor struct {
	Off      bool     `yaml:"off" doc:"No check."`
	Name     string   `yaml:"name" doc:"Name of the check." default:"the service's name"`
	Type     string   `yaml:"type" doc:"Kind of check." enum:"http,keyword,port,ping" default:"http"`
	Path     string   `yaml:"path" doc:"Path that is asked for." default:"/"`
	URL      string   `yaml:"url" doc:"Full URL, instead of the first route and the path."`
	Keyword  string   `yaml:"keyword" doc:"Text that the answer must hold, for type keyword."`
	Interval duration `yaml:"interval" doc:"Time between checks." default:"60s"`
}

func (monitor) shorthand(v any) any {
	if on, ok := v.(bool); ok {
		return map[string]any{"off": !on}
	}
	return v
}

type metrics struct {
	Port uint16 `yaml:"port" doc:"Port that serves the metrics." required:"true" example:"9090"`
	Path string `yaml:"path" doc:"Path of the metrics." default:"/metrics"`
}

func (metrics) shorthand(v any) any {
	switch v.(type) {
	case int, int64, uint64:
		return map[string]any{"port": v}
	}
	return v
}

package spec

// clusterFile is cluster.yaml.
type clusterFile struct {
	Name     string                 `yaml:"name" doc:"Name of the cluster." required:"true" example:"homelab"`
	Tiers    stringList             `yaml:"tiers" doc:"Tiers in deploy order." default:"[infrastructure, platform, application]"`
	Stacks   stringList             `yaml:"stacks" doc:"Where the stack files are: patterns relative to this file; ** crosses folders." default:"[\"**/stack.yaml\"]"`
	Profiles stringList             `yaml:"profiles" doc:"Compose profiles that are active." example:"[gpu]"`
	Nodes    stringList             `yaml:"nodes" doc:"Host names of the Swarm's nodes; lets x-pin name several." example:"[node1, node2]"`
	Zones    map[string]zone        `yaml:"zones" doc:"DNS zones that routes publish names in."`
	Ingress  ingressFile            `yaml:"ingress" doc:"The Caddy that reads labels."`
	SSO      *ssoFile               `yaml:"sso" doc:"Forward authentication."`
	Tunnel   *tunnelFile            `yaml:"tunnel" doc:"Cloudflare Tunnel of the zones with target: tunnel."`
	Networks map[string]*networkDef `yaml:"networks" doc:"Shared overlays; every other network is scoped to its stack." example:"{postgres: {internal: true}}"`
	Metrics  string                 `yaml:"metrics" doc:"Shared network that Prometheus scrapes on; x-metrics attaches to it." example:"metrics"`
	Subnets  subnetsFile            `yaml:"subnets" doc:"Address pool that every overlay's subnet is cut from."`
	Secrets  secretsFile            `yaml:"secrets" doc:"Where op:// references are resolved."`
	Defaults defaultsFile           `yaml:"defaults" doc:"What a service gets that does not say otherwise."`
	Previews *previewsFile          `yaml:"previews" doc:"What preview environments may use." example:"{stacks: [app], secrets: [op://previews]}"`
}

type previewsFile struct {
	Stacks  stringList `yaml:"stacks" doc:"Stacks that may be previewed; all of them unless a command names some." default:"any that a command names"`
	Zones   stringList `yaml:"zones" doc:"Zones that a preview may publish names in." default:"all"`
	Uses    stringList `yaml:"uses" doc:"Shared networks that a preview may use, beside the ingress's." default:"[]"`
	Secrets stringList `yaml:"secrets" doc:"Beginnings of the references that a preview may resolve: a vault, an item." default:"[]" example:"[op://previews]"`
}

type zone struct {
	Domain   string     `yaml:"domain" doc:"Domain of the zone." required:"true" example:"in.example.com"`
	Provider string     `yaml:"provider" doc:"Who serves the zone." enum:"cloudflare,unifi,rfc2136,skep,none" default:"none"`
	Target   string     `yaml:"target" doc:"What names point at: an address, a host name, or tunnel." example:"node1.in.example.com"`
	Proxied  bool       `yaml:"proxied" doc:"Cloudflare proxies the names." default:"false"`
	Private  bool       `yaml:"private" doc:"The zone answers inside only." default:"false"`
	Allow    stringList `yaml:"allow" doc:"Client addresses that may pass on routes of the zone (CIDR)." example:"[10.0.0.0/8]"`
}

type ingressFile struct {
	Network        string             `yaml:"network" doc:"Shared network between the ingress and the services behind it." default:"proxy_network"`
	Service        string             `yaml:"service" doc:"The service that runs Caddy, stack/service." default:"ingress/caddy"`
	Email          string             `yaml:"email" doc:"Contact of the ACME account."`
	Default        ingressDefaults    `yaml:"default" doc:"What a route gets that does not say otherwise."`
	TLS            map[string]tlsFile `yaml:"tls" doc:"Certificates by zone." example:"{internal: {mode: acme-dns, provider: cloudflare, token: op://homelab/cloudflare/token}}"`
	Storage        string             `yaml:"storage" doc:"Reference to the address (DSN) of the PostgreSQL database that several ingresses share certificates through." default:"the ingress's own volume" example:"op://homelab/ingress-storage/dsn"`
	TrustedProxies stringList         `yaml:"trusted_proxies" doc:"Ranges of proxies in front of the ingress (CIDR): the client is the last address in their X-Forwarded-For that is no proxy's. The service of the tunnel needs no entry."`
}

type ingressDefaults struct {
	Zone        string `yaml:"zone" doc:"Zone of a route that names none." default:"the only zone"`
	Auth        *auth  `yaml:"auth" doc:"sso or none." default:"sso where the cluster has it, else none"`
	Security    *bool  `yaml:"security" doc:"Security headers on every route." default:"true"`
	Maintenance *bool  `yaml:"maintenance" doc:"Maintenance page on every route." default:"true"`
}

type tlsFile struct {
	Mode        string `yaml:"mode" doc:"Where certificates come from: acme (HTTP challenge), acme-dns (DNS challenge), origin (Cloudflare origin certificate), custom (a certificate of yours), internal (Caddy's own CA), off (plain HTTP)." enum:"acme,acme-dns,origin,custom,internal,off" required:"true"`
	Provider    string `yaml:"provider" doc:"DNS provider of the challenge." enum:"cloudflare" default:"cloudflare"`
	Token       string `yaml:"token" doc:"Reference to the DNS provider's token." example:"op://homelab/cloudflare/token"`
	Certificate string `yaml:"certificate" doc:"Reference to the certificate chain (PEM)." example:"op://homelab/origin/cert"`
	Key         string `yaml:"key" doc:"Reference to the private key (PEM)." example:"op://homelab/origin/key"`
}

type ssoFile struct {
	Provider string     `yaml:"provider" doc:"Kind of provider." enum:"authentik" default:"authentik"`
	Upstream string     `yaml:"upstream" doc:"URL of the outpost, as the ingress reaches it." required:"true" example:"http://authentik-server:9000"`
	Worker   string     `yaml:"worker" doc:"Service that reads blueprints, stack/service." example:"authentik/worker"`
	Headers  stringList `yaml:"headers" doc:"Headers copied from the outpost's answer to the request." default:"Authentik's X-Authentik-*"`
}

type tunnelFile struct {
	ID      string `yaml:"id" doc:"Identifier of the tunnel." required:"true" example:"6ff42ae2-765d-4adf-8112-31c55c1551ef"`
	Origin  string `yaml:"origin" doc:"URL of the ingress as cloudflared reaches it." default:"https:// and the ingress service"`
	Service string `yaml:"service" doc:"Service that runs cloudflared, stack/service: it gets the ingress file, and it alone is believed about CF-Connecting-IP." example:"cloudflared/cloudflared"`
}

type networkDef struct {
	Internal  bool   `yaml:"internal" doc:"No way out to the Internet." default:"false"`
	Encrypted bool   `yaml:"encrypted" doc:"IPsec between nodes." default:"false"`
	Subnet    string `yaml:"subnet" doc:"Fixed subnet (CIDR)." default:"taken from the pool"`
	Owner     string `yaml:"owner" doc:"Stack that is deployed before the network's users." default:"the stack of the same name, if there is one"`
}

type subnetsFile struct {
	Pool string `yaml:"pool" doc:"Address range that subnets are cut from (CIDR)." default:"10.128.0.0/10"`
	Size int    `yaml:"size" doc:"Prefix length of one network." default:"24"`
}

type secretsFile struct {
	Provider string `yaml:"provider" doc:"Kind of store." enum:"onepassword-connect,age,env" default:"onepassword-connect"`
	Host     string `yaml:"host" doc:"URL of 1Password Connect; OP_CONNECT_HOST goes before it." example:"http://op-connect-api:8080"`
	File     string `yaml:"file" doc:"File that age encrypted, relative to this file." default:"secrets.age"`
	Mode     string `yaml:"mode" doc:"How values reach the Swarm: in secrets of one version each, or through a plugin that asks 1Password Connect when a task starts." enum:"versioned,driver" default:"versioned"`
	Driver   string `yaml:"driver" doc:"Name of the plugin, in mode driver." default:"skep"`
}

type defaultsFile struct {
	Resources resourcesFile `yaml:"resources" doc:"Limits of a service that sets none."`
	Logging   loggingFile   `yaml:"logging" doc:"Log driver of a service that sets none."`
	Update    updateFile    `yaml:"update" doc:"Pace of rolling updates."`
	Restart   restartFile   `yaml:"restart" doc:"Restart policy."`

	DockerProxy string `yaml:"docker_proxy" doc:"Image of the docker proxies; one that takes docker-socket-proxy's variables works too." default:"ghcr.io/skep-sh/skep-dockerproxy"`
}

type resourcesFile struct {
	CPUs   string   `yaml:"cpus" doc:"CPU limit." example:"1"`
	Memory byteSize `yaml:"memory" doc:"Memory limit." example:"512MiB"`
}

type loggingFile struct {
	Driver  string            `yaml:"driver" doc:"Log driver." default:"json-file"`
	Options map[string]string `yaml:"options" doc:"Its options." default:"{max-size: 10m, max-file: 3}"`
}

type updateFile struct {
	Parallelism uint64   `yaml:"parallelism" doc:"Tasks replaced at once." default:"1"`
	Delay       duration `yaml:"delay" doc:"Pause between tasks." default:"0s"`
	Monitor     duration `yaml:"monitor" doc:"How long a new task is watched before it counts as good." default:"15s"`
}

type restartFile struct {
	MaxAttempts *uint64 `yaml:"max_attempts" doc:"Restarts before giving up." default:"no limit"`
}

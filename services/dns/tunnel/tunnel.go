// Package tunnel plans the ingress rules of a Cloudflare Tunnel that is managed
// remotely.
// https://developers.cloudflare.com/cloudflare-one/networks/connectors/cloudflare-tunnel/
package tunnel

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Rule is one ingress rule. What this package does not know of it stays.
type Rule map[string]any

func (r Rule) text(key string) string {
	s, _ := r[key].(string)
	return s
}

// Hostname of the rule; empty matches every host.
func (r Rule) Hostname() string { return strings.ToLower(r.text("hostname")) }

// Service is where requests go.
func (r Rule) Service() string { return r.text("service") }

func (r Rule) catchAll() bool { return r.Hostname() == "" && r.text("path") == "" }

func (r Rule) wildcard() bool { return strings.HasPrefix(r.Hostname(), "*.") }

// Route is how the ingress answers for a host.
type Route struct {
	Host string
	// Plain is over HTTP; SelfSigned with a certificate that nobody else knows.
	Plain, SelfSigned bool
}

// NewRule leads a host to the ingress at origin, an https URL, as the rules of
// the bundle do.
func NewRule(route Route, origin string) Rule {
	rule := Rule{"hostname": route.Host, "service": origin}
	if route.Plain {
		rule["service"] = "http://" + strings.TrimPrefix(origin, "https://")
		return rule
	}
	request := map[string]any{"originServerName": route.Host}
	if rule.wildcard() { // no server has that name: it is the one asked for
		request = map[string]any{"matchSNItoHost": true}
	}
	if route.SelfSigned {
		request["noTLSVerify"] = true
	}
	rule["originRequest"] = request
	return rule
}

// NotFound answers hosts that no rule names.
const NotFound = "http_status:404"

// Config is what a tunnel should do.
type Config struct {
	Tunnel string
	Rules  []Rule // without the catch-all
}

// Parse reads the file of a locally managed tunnel.
func Parse(file []byte) (Config, error) {
	var f struct {
		Tunnel  string `yaml:"tunnel"`
		Ingress []Rule `yaml:"ingress"`
	}
	if err := yaml.Unmarshal(file, &f); err != nil {
		return Config{}, fmt.Errorf("read the tunnel's configuration: %w", err)
	}
	if len(f.Ingress) == 0 || !f.Ingress[len(f.Ingress)-1].catchAll() {
		return Config{}, errors.New("the tunnel's configuration must end with a rule for every host")
	}
	return Config{Tunnel: f.Tunnel, Rules: f.Ingress[:len(f.Ingress)-1]}, nil
}

// Action is what a change does.
type Action string

const (
	Create Action = "create"
	Update Action = "update"
	Remove Action = "remove"
)

// Change is one rule's.
type Change struct {
	Action   Action `json:"action"`
	Hostname string `json:"hostname"` // empty: the catch-all
	Rule     Rule   `json:"rule"`
	Before   Rule   `json:"before,omitempty"`
}

// Conflict is a wanted rule whose host somebody else has routed.
type Conflict struct {
	Hostname string `json:"hostname"`
	Reason   string `json:"reason"`
}

// Plan brings a tunnel's rules to what is wanted. The API takes them as a whole.
type Plan struct {
	Tunnel    string     `json:"tunnel"`
	Changes   []Change   `json:"changes"`
	Conflicts []Conflict `json:"conflicts"`
	Unchanged int        `json:"unchanged"`
	Rules     []Rule     `json:"-"` // all, in order
	// Held: too many rules would go at once.
	Held bool `json:"held"`
}

// Pending reports whether applying the plan would change anything.
func (p Plan) Pending() bool { return len(p.Changes) > 0 }

// freeRemovals is how many rules may always go at once.
const freeRemovals = 2

// Compare plans. A rule is the cluster's when it leads to the ingress, origin;
// others are kept as they are. Share is the part of the cluster's rules that
// may go at once.
func Compare(want Config, live []Rule, origin string, share float64) Plan {
	p := Plan{Tunnel: want.Tunnel, Changes: []Change{}, Conflicts: []Conflict{}}
	ours := func(r Rule) bool {
		return bare(r.Service()) == bare(origin) && r.text("path") == "" && r.Hostname() != ""
	}
	mine, foreign := map[string]Rule{}, []Rule{}
	catchAll := Rule{"service": NotFound}
	for i, r := range live {
		switch {
		case i == len(live)-1 && r.catchAll():
			if r.Service() != NotFound {
				p.Changes = append(p.Changes, Change{Action: Update, Rule: catchAll, Before: r})
			} else {
				catchAll = r
			}
		case ours(r):
			mine[r.Hostname()] = r
		default:
			foreign = append(foreign, r)
		}
	}
	var exact, wildcards []Rule
	owned := len(mine)
	for _, r := range want.Rules {
		host := r.Hostname()
		if i := slices.IndexFunc(foreign, func(f Rule) bool { return f.Hostname() == host && f.text("path") == "" }); i >= 0 {
			p.Conflicts = append(p.Conflicts, Conflict{host, "a rule made by hand sends it to " + foreign[i].Service()})
			continue
		}
		before, there := mine[host]
		delete(mine, host)
		switch {
		case !there:
			p.Changes = append(p.Changes, Change{Action: Create, Hostname: host, Rule: r})
		case !same(r, before):
			p.Changes = append(p.Changes, Change{Action: Update, Hostname: host, Rule: r, Before: before})
		default:
			p.Unchanged++
			r = before
		}
		if r.wildcard() {
			wildcards = append(wildcards, r)
		} else {
			exact = append(exact, r)
		}
	}
	for host, r := range mine {
		p.Changes = append(p.Changes, Change{Action: Remove, Hostname: host, Rule: r})
	}
	p.Held = len(mine) > max(freeRemovals, int(share*float64(owned)))
	slices.SortFunc(p.Changes, func(a, b Change) int { return cmp.Compare(a.Hostname, b.Hostname) })
	// The first rule that matches counts.
	p.Rules = slices.Concat(exact, foreign, wildcards, []Rule{catchAll})
	return p
}

// bare leaves out the scheme, which follows each route's TLS.
func bare(service string) string {
	_, rest, ok := strings.Cut(service, "://")
	if !ok {
		return service
	}
	return rest
}

// same compares what the rules say, however the API spells nothing.
func same(a, b Rule) bool { return canonical(a) == canonical(b) }

func canonical(r Rule) string {
	request, _ := r["originRequest"].(map[string]any)
	if len(request) == 0 {
		request = nil
	}
	text, err := json.Marshal(map[string]any{"hostname": r.Hostname(), "service": r.Service(), "request": request})
	if err != nil {
		return "" // values of JSON and YAML always marshal
	}
	return string(text)
}

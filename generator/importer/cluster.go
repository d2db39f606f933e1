package importer

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// facts are what a stack tells of the cluster around it.
type facts struct {
	tls     map[string]string // by host
	sso     []string          // upstreams of forward auth
	headers []string          // that forward auth copies
	email   string
	trusted []string
	ingress string // network
	owned   []ownedNetwork
	metrics string // network
	nodes   []string
	// snippets are the blocks that sites import, by name.
	snippets map[string]*directive
	internal map[string]bool // networks that the file creates without a way out
	imports  map[string]bool // of snippets, in labels that stay
	asksSSO  bool            // a route asks for a login
}

type ownedNetwork struct {
	name, stack string
	internal    bool
}

func (f *facts) host(host, tls string) {
	if f.tls == nil {
		f.tls = map[string]string{}
	}
	f.tls[host] = tls
}

func (f *facts) own(network, stack string, internal bool) {
	o := ownedNetwork{network, stack, internal}
	if !slices.Contains(f.owned, o) {
		f.owned = append(f.owned, o)
	}
}

// authentikHeaders begin the names of what Skep copies by default.
const authentikHeaders = "x-authentik-"

// Cluster proposes a cluster file for stacks that were imported without one:
// zones by common domain, the ingress and the shared networks. What it had to
// guess is marked.
func Cluster(results []Result, name string) []byte {
	var b strings.Builder
	b.WriteString("# Proposed by skep import. Lines marked \"check\" are guesses.\n")
	fmt.Fprintf(&b, "name: %s\n", scalar(name, false))

	var hosts, sso, extra, trusted []string
	tls := map[string]string{}
	ingress, service, email, metrics, stackOfCaddy := map[string]int{}, "", "", map[string]int{}, ""
	networks := map[string]ownedNetwork{}
	for _, r := range results {
		hosts = append(hosts, r.Hosts...)
		maps.Copy(tls, r.facts.tls)
		sso = append(sso, r.facts.sso...)
		trusted = append(trusted, r.facts.trusted...)
		for _, h := range r.facts.headers {
			if from, _, renamed := strings.Cut(h, ">"); renamed || !strings.HasPrefix(strings.ToLower(from), authentikHeaders) {
				extra = append(extra, h)
			}
		}
		if r.facts.ingress != "" {
			ingress[r.facts.ingress]++
		}
		if r.facts.metrics != "" {
			metrics[r.facts.metrics]++
		}
		if r.Ingress != "" && service == "" {
			stackOfCaddy = string(r.Name)
			service = stackOfCaddy + "/" + string(r.Ingress)
		}
		email = cmp.Or(email, r.facts.email)
		for _, n := range r.SharedNetworks {
			if _, ok := networks[n]; !ok {
				networks[n] = ownedNetwork{name: n}
			}
		}
		for _, n := range r.facts.owned {
			networks[n.name] = n
		}
	}
	zones := zonesOf(hosts, tls)
	proxy := mostOf(ingress)
	writeZones(&b, zones)

	b.WriteString("ingress:\n")
	if proxy != "" {
		fmt.Fprintf(&b, "  network: %s\n", scalar(proxy, false))
	}
	if service == "" {
		b.WriteString("  service: ingress/caddy # check: STACK/SERVICE that runs Caddy\n")
	} else {
		fmt.Fprintf(&b, "  service: %s\n", scalar(service, false))
	}
	if email != "" {
		fmt.Fprintf(&b, "  email: %s\n", scalar(email, false))
	}
	b.WriteString("  default: {")
	if len(zones) > 0 {
		fmt.Fprintf(&b, "zone: %s, ", zones[0].name)
	}
	b.WriteString("auth: none} # routes say auth: sso where they asked for a login\n")
	if slices.ContainsFunc(zones, func(z proposedZone) bool { return z.dns }) {
		b.WriteString("  tls:\n")
		for _, z := range zones {
			if z.dns {
				fmt.Fprintf(&b, "    %s: {mode: acme-dns, provider: cloudflare, token: op://homelab/cloudflare/token} # check the reference\n", z.name)
			}
		}
	}
	if len(trusted) > 0 {
		fmt.Fprintf(&b, "  trusted_proxies: %s\n", inline(list(unique(trusted))))
	}
	writeSSO(&b, results, sso, extra)
	writeNetworks(&b, networks, proxy, stackOfCaddy)
	if m := mostOf(metrics); m != "" {
		fmt.Fprintf(&b, "metrics: %s\n", scalar(m, false))
	}
	return []byte(b.String())
}

func writeZones(b *strings.Builder, zones []proposedZone) {
	if len(zones) == 0 {
		b.WriteString("zones: {} # check: no route names a host\n")
		return
	}
	b.WriteString("zones:\n")
	for _, z := range zones {
		fmt.Fprintf(b, "  %s: {domain: %s", z.name, scalar(z.domain, true))
		if z.private {
			b.WriteString(", private: true")
		}
		b.WriteString("} # check: provider and target of its DNS records\n")
	}
}

func writeSSO(b *strings.Builder, results []Result, upstreams, extra []string) {
	if !slices.ContainsFunc(results, func(r Result) bool { return r.facts.asksSSO }) {
		return
	}
	fmt.Fprintf(b, "sso:\n")
	if len(upstreams) == 0 {
		b.WriteString("  upstream: http://authentik-server:9000 # check\n")
	} else {
		fmt.Fprintf(b, "  upstream: %s\n", scalar(upstreams[0], false))
	}
	if len(extra) > 0 {
		fmt.Fprintf(b, "  # forward auth also copied: %s\n", strings.Join(unique(extra), " "))
	}
}

func writeNetworks(b *strings.Builder, networks map[string]ownedNetwork, proxy, stackOfCaddy string) {
	if len(networks) == 0 {
		return
	}
	b.WriteString("networks:\n")
	for _, name := range sortedKeys(networks) {
		n := networks[name]
		var settings []string
		if n.internal {
			settings = append(settings, "internal: true")
		}
		if n.stack != "" && !(name == proxy && n.stack == stackOfCaddy) && n.stack != name {
			settings = append(settings, "owner: "+scalar(n.stack, true))
		}
		fmt.Fprintf(b, "  %s: {%s}\n", scalar(name, false), strings.Join(settings, ", "))
	}
}

type proposedZone struct {
	name, domain string
	private, dns bool
}

// secondLevel are registries' own names under a country's domain.
var secondLevel = regexp.MustCompile(`^(ac|co|com|edu|gov|net|org)\.[a-z]{2}$`)

// domainOf is the domain that a host is probably a name of.
func domainOf(host string) string {
	host = strings.TrimPrefix(host, "*.")
	_, parent, ok := strings.Cut(host, ".")
	if strings.HasPrefix(parent, "$") {
		return parent
	}
	if !ok || !strings.Contains(parent, ".") && !privateDomain(host) || secondLevel.MatchString(parent) {
		return host
	}
	return parent
}

var privateSuffix = regexp.MustCompile(`(^|\.)(lan|local|localdomain|home|internal|intranet|home\.arpa|test)$`)
var privateFirst = regexp.MustCompile(`^(in|int|internal|lan|home|local|intra)\.`)

func privateDomain(domain string) bool {
	return privateSuffix.MatchString(domain) || privateFirst.MatchString(domain)
}

// zonesOf groups hosts by domain; the zone with most hosts comes first.
func zonesOf(hosts []string, tls map[string]string) []proposedZone {
	count := map[string]int{}
	for _, h := range hosts {
		count[domainOf(h)]++
	}
	// A name that is the parent of a zone's names belongs to that zone.
	domains := sortedKeys(count)
	slices.SortStableFunc(domains, func(a, b string) int { return cmp.Compare(count[b], count[a]) })
	taken := map[string]bool{}
	var out []proposedZone
	for _, d := range domains {
		z := proposedZone{domain: d, private: privateDomain(d)}
		for _, h := range hosts {
			z.dns = z.dns || domainOf(h) == d && tls[h] == "acme-dns"
		}
		base := "public"
		if z.private {
			base = "internal"
		}
		if taken[base] {
			base = slug(strings.NewReplacer(".", "-", "$", "", "{", "", "}", "").Replace(d))
		}
		z.name = base
		for n := 2; taken[z.name]; n++ {
			z.name = base + "-" + strconv.Itoa(n)
		}
		taken[z.name] = true
		out = append(out, z)
	}
	return out
}

// mostOf is the most frequent, the first by name of equals.
func mostOf(count map[string]int) string {
	best := ""
	for _, k := range sortedKeys(count) {
		if best == "" || count[k] > count[best] {
			best = k
		}
	}
	return best
}

func unique(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func sortedValues(m map[string]int) []int { return slices.Sorted(maps.Values(m)) }

func itoa(n int) string { return strconv.Itoa(n) }

// slug is how Skep makes a name of a text (generator/expand).
func slug(s string) string {
	out := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, s)
	return strings.Trim(out, "-._")
}

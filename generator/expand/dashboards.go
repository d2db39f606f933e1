package expand

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"skep/generator/bundle"
	"skep/generator/stack"
)

// front is the route that people open: the first that answers for a host's
// root, else the first.
func front(s *stack.Service) (stack.Route, bool) {
	for _, r := range s.Routes {
		if r.Root() {
			return r, true
		}
	}
	if len(s.Routes) > 0 {
		return s.Routes[0], true
	}
	return stack.Route{}, false
}

// homepage writes the labels of a link on Homepage
// (https://gethomepage.dev/configs/docker/#automatic-service-discovery).
func (b *builder) homepage() {
	h := b.service.Homepage
	route, routed := front(b.service)
	if h == nil {
		if !routed || !route.Root() {
			return
		}
		h = &stack.Homepage{Pos: route.Pos}
	}
	if h.Off {
		return
	}
	origin := bundle.Origin{Pos: h.Pos, By: "x-homepage"}
	set := func(key, value string) {
		if value != "" {
			b.label(origin, "homepage."+key, value)
		}
	}
	set("group", or(h.Group, string(b.Name)))
	set("name", or(h.Name, b.name))
	set("icon", h.Icon)
	set("description", h.Description)
	switch {
	case h.Href != "":
		set("href", h.Href)
	case routed:
		set("href", route.URL())
	}
	if h.Weight != 0 {
		set("weight", itoa(h.Weight))
	}
	for _, k := range sortedKeys(h.Widget) {
		set("widget."+k, h.Widget[k])
	}
}

// monitor writes the labels of an uptime check, as AutoKuma reads them
// (https://github.com/BigBoot/AutoKuma#usage).
func (b *builder) monitor() {
	m := b.service.Monitor
	route, routed := front(b.service)
	if m == nil {
		if !routed || !route.Root() {
			return
		}
		m = &stack.Monitor{Type: "http", Interval: time.Minute, Pos: route.Pos}
	}
	if m.Off {
		return
	}
	origin := bundle.Origin{Pos: m.Pos, By: "x-monitor"}
	id := "kuma." + slug(strings.ReplaceAll(b.service.Ref.String(), "/", "-")) + "." + m.Type + "."
	b.label(origin, id+"name", or(m.Name, b.name))
	b.label(origin, id+"interval", strconv.Itoa(int(m.Interval.Seconds())))
	switch m.Type {
	case "http", "keyword":
		url := m.URL
		if url == "" && routed {
			var host string
			if url, host = b.monitored(route, or(m.Path, "/")); host != "" {
				headers, _ := json.Marshal(map[string]string{"Host": host}) // text does not fail
				b.label(origin, id+"headers", string(headers))
			}
		}
		b.label(origin, id+"url", url)
		if m.Keyword != "" {
			b.label(origin, id+"keyword", m.Keyword)
		}
	case "port":
		b.label(origin, id+"hostname", b.swarmName())
		if routed {
			b.label(origin, id+"port", itoa(int(route.Port)))
		}
	case "ping":
		b.label(origin, id+"hostname", b.swarmName())
	}
}

// monitored is where a check finds the path, and as which host it asks. A login
// answers for a service that is down, so behind one the check asks the service,
// on the ingress's network, and sends the host that the ingress would.
func (b *builder) monitored(r stack.Route, path string) (url, host string) {
	if r.Auth.SSO && !r.Auth.Bypasses(path) {
		scheme := "http"
		if r.Scheme == "https" {
			scheme = r.Scheme
		}
		for key, value := range r.Headers.Request {
			if strings.EqualFold(key, "Host") && !strings.Contains(value, "{") { // Caddy alone knows its placeholders
				host = value
			}
		}
		return scheme + "://" + b.swarmName() + ":" + itoa(int(r.Port)) + "/" + strings.TrimLeft(strings.TrimPrefix(path, r.Strip), "/"), host
	}
	return r.URL() + path, ""
}

// swarmName is the service's name in the Swarm.
func (b *builder) swarmName() string { return string(b.Name) + "_" + b.name }

// metrics writes the labels that Prometheus' Swarm discovery selects by.
func (b *builder) metrics() {
	m := b.service.Metrics
	if m == nil {
		return
	}
	origin := bundle.Origin{Pos: m.Pos, By: "x-metrics"}
	b.label(origin, "prometheus.scrape", "true")
	b.label(origin, "prometheus.port", itoa(int(m.Port)))
	b.label(origin, "prometheus.path", m.Path)
}

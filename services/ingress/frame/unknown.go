package frame

import (
	"maps"
	"net"
	"slices"
	"strings"
)

// unknown answers 404 to hosts that no site has: Caddy would answer an empty
// 200, or send them to HTTPS where no certificate is.
func unknown(http object, page string) {
	servers := child(http, "servers")
	httpPort := port(http["http_port"], 80)
	hosts := map[string]bool{}
	var plain object // the server on the HTTP port
	everyHost, bound := false, false
	redirects := true // whether Caddy listens on the HTTP port by itself
	for _, name := range sorted(servers) {
		server := child(servers, name)
		all := hostsOf(server, hosts)
		if auto := child(server, "automatic_https"); auto["disable"] == true || auto["disable_redirects"] == true {
			redirects = false
		}
		onHTTP := false
		for _, listen := range items(server, "listen") {
			host, port, err := net.SplitHostPort(listen.(string))
			bound = bound || err != nil || host != ""
			onHTTP = onHTTP || port == httpPort
		}
		if onHTTP {
			plain = server
		} else {
			everyHost = everyHost || all
		}
		if !onHTTP && !all {
			server["routes"] = append(items(server, "routes"), notFound(page, nil))
		}
	}
	switch {
	case plain == nil && !bound && !everyHost && redirects:
		plain = object{"listen": []any{":" + httpPort}}
		servers["skep_http"] = plain
	case plain == nil || everyHost || hostsOf(plain, map[string]bool{}):
		return
	}
	// Caddy adds its redirects to HTTPS behind the routes of hosts, and one for
	// every host at the end: this one stands between and leaves known hosts to it.
	plain["routes"] = append(items(plain, "routes"), notFound(page, slices.Sorted(maps.Keys(hosts))))
}

// hostsOf collects the hosts of a server's routes and reports whether one of
// them takes every host.
func hostsOf(server object, hosts map[string]bool) bool {
	all := false // a server without routes takes no host
	for _, r := range items(server, "routes") {
		sets := items(r.(object), "match")
		all = all || len(sets) == 0
		for _, set := range sets {
			names := items(set.(object), "host")
			all = all || len(names) == 0
			for _, name := range names {
				hosts[name.(string)] = true
			}
		}
	}
	return all
}

func notFound(page string, except []string) object {
	handle := []any{
		object{"handler": "headers", "response": object{"set": object{
			"Cache-Control": []any{"no-store"}, "Content-Type": []any{"text/html; charset=utf-8"},
		}}},
		object{"handler": "static_response", "status_code": 404, "body": strings.ReplaceAll(page, "{", `\{`)},
	}
	out := object{"handle": handle, "terminal": true}
	if len(except) > 0 {
		names := make([]any, len(except))
		for i, name := range except {
			names[i] = name
		}
		out["match"] = []any{object{"not": []any{object{"host": names}}}}
	}
	return out
}

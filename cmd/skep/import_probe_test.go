package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// probe is a request.
type probe struct {
	listen, host, path, client string
	loggedIn                   bool
	header                     http.Header // that some matcher looks at
}

func (p probe) String() string {
	return fmt.Sprintf("%s%s%s from %s, logged in: %t %v", p.host, p.listen, p.path, p.client, p.loggedIn, p.header)
}

func hostsOf(probes []probe) map[string]bool {
	out := map[string]bool{}
	for _, p := range probes {
		out[p.host] = true
	}
	return out
}

// probesOf are requests that tell apart what either configuration does.
func probesOf(configs ...tree) []probe {
	hosts, paths, clients := map[string]map[string]bool{}, map[string]bool{"/": true, "/zz": true}, map[string]bool{"198.51.100.7": true}
	header := http.Header{}
	for _, c := range configs {
		walk(c, "match", func(sets any) { // the header matchers of routes
			walk(sets, "header", func(v any) {
				for name, values := range v.(tree) {
					if list, ok := values.([]any); ok && len(list) > 0 {
						header.Set(name, strings.ReplaceAll(list[0].(string), "*", ""))
					}
				}
			})
		})
		for listen, s := range serversOf(c) {
			if hosts[listen] == nil {
				hosts[listen] = map[string]bool{"unknown.example.org": true}
			}
			matched(s, "host", func(v string) { hosts[listen][strings.Replace(v, "*", "any", 1)] = true })
			matched(s, "path", func(v string) {
				if strings.HasPrefix(v, "/outpost.goauthentik.io/") {
					return // Skep brings the outpost's own paths, which not everybody had
				}
				paths[strings.ReplaceAll(v, "*", "x")], paths[strings.ReplaceAll(v, "*", "")] = true, true
			})
			ranges := func(v any) {
				list, _ := v.(tree)["ranges"].([]any)
				for _, r := range list {
					if prefix, err := netip.ParsePrefix(r.(string)); err == nil {
						clients[prefix.Addr().Next().String()] = true
					} else {
						clients[r.(string)] = true
					}
				}
			}
			walk(s, "client_ip", ranges)
		}
	}
	var out []probe
	for _, listen := range slices.Sorted(maps.Keys(hosts)) {
		for _, host := range slices.Sorted(maps.Keys(hosts[listen])) {
			for _, path := range slices.Sorted(maps.Keys(paths)) {
				for _, client := range slices.Sorted(maps.Keys(clients)) {
					if strings.HasPrefix(path, "/") {
						out = append(out, probe{listen, host, path, client, false, nil}, probe{listen, host, path, client, true, nil})
						if len(header) > 0 {
							out = append(out, probe{listen, host, path, client, true, header})
						}
					}
				}
			}
		}
	}
	return out
}

// walk visits the values of a key wherever it stands.
func walk(node any, key string, visit func(any)) {
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			walk(child, key, visit)
		}
	case tree:
		for name, child := range node {
			if name == key {
				visit(child)
			}
			walk(child, key, visit)
		}
	}
}

func matched(node any, key string, visit func(string)) {
	walk(node, key, func(v any) {
		list, _ := v.([]any)
		for _, item := range list {
			if s, ok := item.(string); ok {
				visit(s)
			}
		}
	})
}

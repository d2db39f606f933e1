package frame

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"skep/services/ingress/route"
)

// normal puts sites' routes back into a frame, leaves out what the ingress
// adds, and numbers groups of routes by site: alone and together Caddy numbers
// them differently.
func normal(t *testing.T, config []byte, parts []*Part) object {
	t.Helper()
	var tree object
	if err := json.Unmarshal(config, &tree); err != nil {
		t.Fatal(err)
	}
	routes := map[string]route.Routes{}
	for _, p := range parts {
		routes[string(p.ID)] = p.Routes
	}
	if admin := child(tree, "admin"); fmt.Sprint(admin["config"]) == "map[persist:false]" {
		delete(tree, "admin")
	}
	servers := child(tree, "apps", "http", "servers")
	delete(servers, "skep_http")
	for _, s := range servers {
		server := s.(object)
		put(server, "routes", inline(items(server, "routes"), routes, false))
		if errors := child(server, "errors"); errors != nil {
			put(errors, "routes", inline(items(errors, "routes"), routes, true))
			if len(errors) == 0 {
				delete(server, "errors")
			}
		}
		regroup(server["routes"], server["errors"])
		for _, named := range child(server, "named_routes") {
			regroup(named)
		}
	}
	if len(servers) == 0 {
		delete(child(tree, "apps"), "http")
	}
	if len(child(tree, "apps")) == 0 {
		delete(tree, "apps")
	}
	return tree
}

func put(o object, key string, list []any) {
	if len(list) == 0 {
		delete(o, key)
		return
	}
	o[key] = list
}

// inline replaces the handler that stands for a site.
func inline(list []any, sites map[string]route.Routes, errors bool) []any {
	var out []any
	for _, r := range list {
		r := r.(object)
		if body, err := json.Marshal(r["handle"]); err == nil && (strings.Contains(string(body), `"body":"none"`) || strings.Contains(string(body), route.LeavingName)) {
			continue
		}
		site := siteOf(r)
		if site == "" {
			out = append(out, r)
			continue
		}
		text := sites[site].Primary
		if errors {
			text = sites[site].Errors
		}
		var inner []any
		if len(text) > 0 {
			if err := json.Unmarshal(text, &inner); err != nil {
				panic(err)
			}
		}
		switch {
		case len(inner) == 0 && errors:
		case len(inner) == 0:
			delete(r, "handle")
			out = append(out, r)
		case r["match"] == nil && (errors && len(list) == 1 || !errors && items(r, "handle")[0].(object)["handler"] == route.Directive):
			out = append(out, inner...)
		default:
			r["handle"] = []any{object{"handler": "subroute", "routes": inner}}
			out = append(out, r)
		}
	}
	return out
}

// regroup numbers the groups below nodes in order of appearance.
func regroup(nodes ...any) {
	names := map[string]string{}
	var walk func(any)
	walk = func(node any) {
		switch node := node.(type) {
		case []any:
			for _, one := range node {
				walk(one)
			}
		case object:
			if group, ok := node["group"].(string); ok {
				if names[group] == "" {
					names[group] = fmt.Sprintf("g%d", len(names))
				}
				node["group"] = names[group]
			}
			for _, key := range sorted(node) {
				walk(node[key])
			}
		}
	}
	for _, node := range nodes {
		if list, ok := node.([]any); ok {
			for _, site := range list {
				clear(names)
				walk(site)
			}
			continue
		}
		clear(names)
		walk(node)
	}
}

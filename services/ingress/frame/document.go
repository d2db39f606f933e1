package frame

import (
	"encoding/json"
	"maps"
	"slices"

	"skep/services/ingress/route"
)

// object is a JSON object.
type object = map[string]any

// document is a configuration of Caddy.
type document struct{ tree object }

func child(o object, path ...string) object {
	for _, key := range path {
		o, _ = o[key].(object)
	}
	return o
}

func items(o object, key string) []any {
	list, _ := o[key].([]any)
	return list
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (d *document) servers() object { return child(d.tree, "apps", "http", "servers") }

// encode cannot fail: what it writes was read from JSON.
func encode(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// routes takes the handlers of the only site out of its server. A site with
// addresses on two servers has the same handlers on both.
func (d *document) routes() (route.Routes, map[string]json.RawMessage) {
	servers := d.servers()
	if len(servers) == 0 {
		return route.Routes{}, nil
	}
	server := child(servers, sorted(servers)[0])
	out := route.Routes{Primary: inner(items(server, "routes"))}
	if errors := child(server, "errors"); errors != nil {
		out.Errors = inner(items(errors, "routes"))
	}
	named := map[string]json.RawMessage{}
	for name, r := range child(server, "named_routes") {
		named[name] = encode(r)
	}
	return out, named
}

// inner unwraps the route that holds a site: its matchers stay in the frame.
func inner(routes []any) json.RawMessage {
	if len(routes) == 1 {
		r, _ := routes[0].(object)
		if r["match"] != nil || r["terminal"] == true {
			handlers := items(r, "handle")
			if len(handlers) == 0 {
				return nil
			}
			if h, _ := handlers[0].(object); len(handlers) == 1 && h["handler"] == "subroute" && r["terminal"] == true && h["errors"] == nil {
				return encode(items(h, "routes"))
			}
		}
	}
	if len(routes) == 0 {
		return nil
	}
	return encode(routes)
}

// without is the configuration without what its servers do with requests.
func (d *document) without() object {
	out := maps.Clone(d.tree)
	apps := maps.Clone(child(out, "apps"))
	http := maps.Clone(child(apps, "http"))
	if http == nil {
		return out
	}
	servers := object{}
	for name, s := range child(http, "servers") {
		server := maps.Clone(s.(object))
		delete(server, "routes")
		delete(server, "errors")
		delete(server, "named_routes")
		servers[name] = server
	}
	http["servers"], apps["http"], out["apps"] = servers, http, apps
	return out
}

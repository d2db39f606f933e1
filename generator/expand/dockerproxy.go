package expand

import (
	"strings"

	"skep/generator/bundle"
)

// dockerProxy gives the service a docker proxy of its own: the only place
// where the socket is mounted, on a network that the two share with nobody.
func (b *builder) dockerProxy() {
	api := b.service.DockerAPI
	if api == nil {
		return
	}
	origin := bundle.Origin{Pos: api.Pos, By: "x-docker-api"}
	name := proxyKey(b.service)
	path := func(keys ...string) []string { return append([]string{"services", name}, keys...) }
	env := map[string]any{"POST": "0"}
	// The proxy opens these by default; the service gets what it asked for.
	for _, section := range []string{"EVENTS", "PING", "VERSION"} {
		env[section] = "0"
	}
	for _, section := range api.Read {
		env[strings.ToUpper(section)] = "1"
	}
	env["PING"], env["VERSION"] = "1", "1" // every client begins with them
	if len(api.Write) > 0 {
		env["ALLOW"] = strings.Join(api.Write, ", ")
	}
	if api.OwnStack {
		env["SELECTOR"] = "com.docker.stack.namespace=" + string(b.Name)
	}
	image := b.e.cluster.Defaults.DockerProxy
	if locked := b.e.cluster.Images[image]; locked.Digest != "" {
		image += "@" + locked.Digest
	}
	b.put(origin, map[string]any{
		"image":       image,
		"environment": env,
		"read_only":   true,
		"cap_drop":    []any{"ALL"},
		"volumes": []any{map[string]any{
			"type": "bind", "source": "/var/run/docker.sock", "target": "/var/run/docker.sock", "read_only": true,
		}},
		"networks": map[string]any{name: map[string]any{}},
		"logging":  b.get("logging"),
		"deploy": map[string]any{
			// One task and no virtual address: the name is the task's address.
			"endpoint_mode":  "dnsrr",
			"placement":      map[string]any{"constraints": []any{"node.role == manager"}},
			"resources":      map[string]any{"limits": map[string]any{"cpus": "0.25", "memory": "64M"}},
			"update_config":  map[string]any{"order": "stop-first", "failure_action": "rollback"},
			"restart_policy": map[string]any{"condition": "any", "delay": "2s"},
		},
	}, path()...)
	if strings.Contains(image, "skep-dockerproxy") {
		b.put(origin, map[string]any{
			"test": []any{"CMD", "/skep-dockerproxy", "-healthcheck"}, "interval": "15s", "timeout": "3s", "retries": 3,
		}, path("healthcheck")...)
	}
	b.attach(origin, name, "its docker proxy", map[string]any{})
	b.links = append(b.links, attachment{network: b.networkName(name), service: serviceName(name), why: "docker proxy of " + b.name})
	if b.get("environment", "DOCKER_HOST") == nil {
		b.set(origin, "tcp://"+name+":2375", "environment", "DOCKER_HOST")
	}
}

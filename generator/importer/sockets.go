package importer

import (
	"slices"
	"strings"

	"skep/generator/check"
	"skep/generator/stack"
)

// readers are images that read the Docker API through the client that
// DOCKER_HOST steers, and what of it.
var readers = map[string][]string{
	"caddy-docker-proxy": {"configs", "containers", "events", "info", "networks", "services", "tasks"},
	"dozzle":             {"containers", "events", "info", "logs", "services", "tasks"},
	"diun":               {"containers", "events", "images", "services"},
}

// hidden are the values that images read in what they are given, and that a
// docker proxy hides unless they are asked for.
var hidden = map[string][]string{
	"autokuma":           {"label_values"}, // logins of monitors
	"caddy-docker-proxy": {"config_data", "label_values"},
	"homepage":           {"label_values"}, // keys of widgets
}

// sectionsOf completes what a service may read with the values that its image
// looks for.
func sectionsOf(s *service, sections []string) []string {
	out := slices.Concat(sections, hidden[stack.ImageName(text(s.def.get("image")))])
	slices.Sort(out)
	return slices.Compact(out)
}

// sockets looks at services that mount the Docker socket themselves.
func (im *importer) sockets() {
	for _, s := range im.live() {
		mounts, ok := s.def.get("volumes").([]any)
		if !ok || check.IsDockerProxy(text(s.def.get("image"))) {
			continue
		}
		for i, m := range mounts {
			source, target, _ := splitMount(m)
			if !strings.HasSuffix(source, "/docker.sock") {
				continue
			}
			at := im.at(s, "volumes", itoa(i))
			sections := readers[stack.ImageName(text(s.def.get("image")))]
			if len(sections) == 0 || s.def.has("x-docker-api") || im.variable(s, "DOCKER_HOST") != "" || im.variable(s, "DOZZLE_ENABLE_ACTIONS") == "true" {
				im.note(at, s.name, "mount of "+source, "what the service does with the Docker socket is not known",
					"write x-docker-api with the sections that it reads ([containers, events]), and remove the mount of "+target)
				continue
			}
			s.def.set("x-docker-api", list(sectionsOf(s, sections)))
			s.def.setOrDelete("volumes", slices.Delete(slices.Clone(mounts), i, i+1))
			im.lift(at, s.name, "mount of "+source, "x-docker-api")
			break
		}
	}
}

// splitMount reads a mount in either form.
func splitMount(m any) (source, target string, readOnly bool) {
	switch m := m.(type) {
	case *mapping:
		ro, _ := m.get("read_only").(bool)
		return text(m.get("source")), text(m.get("target")), ro
	case string:
		parts := strings.Split(m, ":")
		// ${DIR:-/srv}:/config has a colon inside of a variable.
		for i := 0; i+1 < len(parts); {
			if strings.Count(parts[i], "${") > strings.Count(parts[i], "}") {
				parts[i] += ":" + parts[i+1]
				parts = slices.Delete(parts, i+1, i+2)
				continue
			}
			i++
		}
		if len(parts) == 1 {
			return "", parts[0], false
		}
		return parts[0], parts[1], len(parts) > 2 && slices.Contains(strings.Split(parts[2], ","), "ro")
	}
	return "", "", false
}

// mountsVolume reports whether the service mounts a named volume.
func (s *service) mountsVolume(name string) bool {
	mounts, _ := s.def.get("volumes").([]any)
	return slices.ContainsFunc(mounts, func(m any) bool {
		source, _, _ := splitMount(m)
		return source == name
	})
}

package importer

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"skep/generator/check"
	"skep/generator/spec"
	"skep/generator/stack"
)

// dockerProxies gives each consumer of a hand-written docker proxy
// x-docker-api, and takes the proxy out when it has no consumer left.
func (im *importer) dockerProxies() {
	for _, proxy := range im.services {
		if !check.IsDockerProxy(text(proxy.def.get("image"))) || proxy.gone {
			continue
		}
		im.dockerProxy(proxy)
	}
}

func (im *importer) dockerProxy(proxy *service) {
	sections, writes, why := im.proxySections(proxy)
	keep := func(why, remedy string) {
		im.note(im.at(proxy), proxy.name, "docker proxy "+proxy.name, why, remedy)
	}
	if why != "" {
		keep(why, "write x-docker-api: {read: [...], write: [\"POST /services/{id}/update\"]} on the services that use it, and remove it")
		return
	}
	var certain []*service
	var doubtful []string
	names := im.namesOf(proxy)
	for _, s := range im.live() {
		switch {
		case s == proxy:
		case im.namesHost(s, names) || im.filesName(s, names):
			certain = append(certain, s)
		case im.meetsAt(s, proxy):
			doubtful = append(doubtful, s.name)
		}
	}
	switch {
	case len(certain)+len(doubtful) == 0:
		keep("no service of the file names it", "services of other stacks need x-docker-api instead")
		return
	case len(sections)+len(writes) == 0:
		keep("it opens no section", "write x-docker-api on "+strings.Join(serviceNames(certain), ", "))
		return
	}
	for _, s := range certain {
		if s.def.has("x-docker-api") {
			doubtful = append(doubtful, s.name)
			continue
		}
		im.giveDockerAPI(s, sectionsOf(s, sections), writes)
		if _, known := hidden[stack.ImageName(text(s.def.get("image")))]; !known && shows(sections) {
			im.note(im.at(s), s.name, "x-docker-api", "values of variables, and of labels that look like secrets, are hidden from it now",
				"add env_values or label_values to x-docker-api if it needs them")
		}
		im.renameHost(s, names)
		im.renameInFiles(s, names)
		im.lift(im.at(proxy), s.name, "docker proxy "+proxy.name, "x-docker-api")
	}
	if len(doubtful) > 0 {
		keep(strings.Join(doubtful, ", ")+" may reach it by a file of its own", "write x-docker-api there, name SERVICE-docker-proxy:2375 in the file, and remove the proxy")
		return
	}
	proxy.gone = true
}

// shows reports whether the sections hold objects with variables and labels.
func shows(sections []string) bool {
	return slices.ContainsFunc([]string{"containers", "services", "tasks"}, func(s string) bool { return slices.Contains(sections, s) })
}

func serviceNames(list []*service) []string {
	var out []string
	for _, s := range list {
		out = append(out, s.name)
	}
	return out
}

func (im *importer) giveDockerAPI(s *service, sections, writes []string) {
	if len(writes) == 0 {
		s.def.set("x-docker-api", list(sections))
		return
	}
	m := &mapping{}
	if len(sections) > 0 {
		m.set("read", list(sections))
	}
	m.set("write", list(writes))
	s.def.set("x-docker-api", m)
}

// namesOf are the host names of a service within its networks.
func (im *importer) namesOf(s *service) []string {
	out := []string{s.name, string(im.result.Name) + "_" + s.name, "tasks." + s.name}
	for _, key := range []string{"container_name", "hostname"} {
		if name := text(s.def.get(key)); name != "" {
			out = append(out, name)
		}
	}
	if nets, ok := s.def.get("networks").(*mapping); ok {
		for _, e := range nets.entries {
			out = append(out, strs(sub(e.value, "aliases"))...)
		}
	}
	return out
}

// hostPattern finds a host name in an address: //name:2375, name:2375.
func hostPattern(name string) *regexp.Regexp {
	return regexp.MustCompile(`(^|//|[=@,\s])` + regexp.QuoteMeta(name) + `(:\d+)?($|[/,\s"'])`)
}

// namesHost reports whether variables or the command name a docker host.
func (im *importer) namesHost(s *service, names []string) bool {
	for _, e := range environment(s.def) {
		value := im.resolve(text(e.value))
		if !strings.Contains(strings.ToUpper(e.key), "DOCKER") && !strings.Contains(value, ":2375") {
			continue
		}
		for _, name := range names {
			if hostPattern(name).MatchString(value) {
				return true
			}
		}
	}
	for _, key := range []string{"command", "entrypoint"} {
		for _, arg := range strs(s.def.get(key)) {
			for _, name := range names {
				if strings.Contains(arg, "://"+name+":") {
					return true
				}
			}
		}
	}
	return false
}

// meetsAt reports whether the service shares with the proxy a network that is
// not the stack's own.
func (im *importer) meetsAt(s, proxy *service) bool {
	return slices.ContainsFunc(s.wasOn, func(n string) bool { return n != ownDefault && slices.Contains(proxy.wasOn, n) })
}

// renameHost points a consumer to the docker proxy that Skep gives it.
func (im *importer) renameHost(s *service, names []string) {
	to := s.name + "-docker-proxy"
	rename := func(v string) string { return renameIn(v, names, to) }
	for _, e := range slices.Clone(environment(s.def)) {
		value := text(e.value)
		if !strings.Contains(strings.ToUpper(e.key), "DOCKER") && !strings.Contains(value, ":2375") {
			continue
		}
		switch renamed := rename(value); {
		case e.key == "DOCKER_HOST" && (renamed == "tcp://"+to+":2375" || renamed == value):
			setEnvironment(s.def, e.key, nil) // Skep sets it
		case renamed != value:
			setEnvironment(s.def, e.key, renamed)
		}
	}
	for _, key := range []string{"command", "entrypoint"} {
		switch v := s.def.get(key).(type) {
		case string:
			if renamed := rename(v); renamed != v {
				s.def.set(key, renamed)
			}
		case []any:
			out := slices.Clone(v)
			for i, item := range out {
				if arg, ok := item.(string); ok {
					out[i] = rename(arg)
				}
			}
			s.def.set(key, out)
		}
	}
}

func renameIn(v string, names []string, to string) string {
	for _, name := range names {
		v = hostPattern(name).ReplaceAllStringFunc(v, func(found string) string {
			m := hostPattern(name).FindStringSubmatch(found)
			port := m[2]
			if port != "" {
				port = ":2375"
			}
			return m[1] + to + port + m[3]
		})
	}
	return v
}

// configFiles are the files beside the Compose file that the service gets as
// configs.
func (im *importer) configFiles(s *service) []string {
	var out []string
	for _, c := range asList(s.def.get("configs")) {
		source := text(c)
		if m, ok := c.(*mapping); ok {
			source = text(m.get("source"))
		}
		if file := text(sub(im.values, "configs", source, "file")); file != "" {
			out = append(out, path.Clean(im.resolve(file)))
		}
	}
	return out
}

// filesName reports whether a config of the service names a docker host, as
// Homepage's docker.yaml does.
func (im *importer) filesName(s *service, names []string) bool {
	return slices.ContainsFunc(im.configFiles(s), func(file string) bool {
		content := string(im.read(file))
		return renameIn(content, names, "") != content
	})
}

// renameInFiles points the service's configs to the docker proxy that Skep
// gives it.
func (im *importer) renameInFiles(s *service, names []string) {
	for _, file := range im.configFiles(s) {
		content := string(im.read(file))
		if renamed := renameIn(content, names, s.name+"-docker-proxy"); renamed != content {
			im.rewritten[file] = []byte(renamed)
			im.note(im.at(s, "configs"), s.name, "file "+file, "its copy names "+s.name+"-docker-proxy now", "")
		}
	}
}

// writesOf are the single endpoints that docker-socket-proxy's ALLOW_*
// variables open.
// https://github.com/Tecnativa/docker-socket-proxy#grant-or-revoke-access-to-certain-api-sections
var writesOf = map[string][]string{
	"ALLOW_START":    {"POST /containers/{id}/start"},
	"ALLOW_STOP":     {"POST /containers/{id}/stop"},
	"ALLOW_RESTARTS": {"POST /containers/{id}/kill", "POST /containers/{id}/restart", "POST /containers/{id}/stop"},
}

// proxySections is what a docker proxy lets through.
func (im *importer) proxySections(s *service) (sections, writes []string, why string) {
	on := map[string]bool{"events": true} // open by default, as ping and version are
	regexes := strs(s.def.get("command"))
	for _, e := range environment(s.def) {
		value := strings.ToLower(im.resolve(text(e.value)))
		set := value == "1" || value == "true"
		name := strings.ToUpper(e.key)
		switch section := strings.ToLower(e.key); {
		case name == "POST" && set:
			return nil, nil, "it opens every write (POST=1), and x-docker-api names writes one by one"
		case writesOf[name] != nil && set:
			writes = append(writes, writesOf[name]...)
		case slices.Contains(spec.DockerSections, section):
			on[section] = set
		case strings.HasPrefix(name, "SP_ALLOW_"):
			regexes = append(regexes, "-allow"+strings.TrimPrefix(name, "SP_ALLOW_")+"="+text(e.value))
		}
	}
	if stack.ImageName(text(s.def.get("image"))) == "socket-proxy" && slices.ContainsFunc(regexes, func(a string) bool { return allowFlag.MatchString(a) }) {
		clear(on)
		for _, arg := range regexes {
			m := allowFlag.FindStringSubmatch(arg)
			if m == nil {
				continue
			}
			if m[1] != "GET" && m[1] != "HEAD" {
				return nil, nil, "it opens writes by a regular expression, and x-docker-api names writes one by one"
			}
			found := 0
			for _, word := range sectionWord.FindAllString(strings.ToLower(m[2]), -1) {
				if slices.Contains(spec.DockerSections, word) {
					on[word], found = true, found+1
				}
			}
			if found == 0 || strings.Contains(m[2], "|.*") || strings.Contains(m[2], "(.*") {
				return nil, nil, "what it opens is a regular expression that names no section"
			}
		}
	}
	for _, section := range sortedKeys(on) {
		if on[section] && section != "ping" && section != "version" {
			sections = append(sections, section)
		}
	}
	if len(sections) == 0 && (on["ping"] || on["version"]) {
		sections = []string{"version"}
	}
	slices.Sort(writes)
	return sections, slices.Compact(writes), ""
}

var (
	// allowFlag is how wollomatic/socket-proxy is told what passes.
	allowFlag   = regexp.MustCompile(`^-?-allow_?([A-Z]+)=(.*)$`)
	sectionWord = regexp.MustCompile(`[a-z]+`)
)

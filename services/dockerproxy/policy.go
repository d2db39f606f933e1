// Package dockerproxy lets a consumer use those parts of the Docker API that
// were granted to it, and nothing else. It links the standard library alone:
// the process holds the Docker socket.
package dockerproxy

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// ErrRefused is wrapped by every refusal of a Policy.
var ErrRefused = errors.New("refused by the Docker API proxy")

// Policy says which requests may reach the Docker socket. The zero Policy
// refuses all.
type Policy struct {
	sections map[string]bool // first segments of paths
	writes   bool            // methods beyond GET and HEAD
	logs     bool            // output of containers, services and tasks
	allowed  []endpoint
}

// endpoint is one method of one path; a segment such as "{id}" stands for any
// name.
type endpoint struct {
	method   string
	segments []string
}

// sections are the variables that open a part of the API, as in
// tecnativa/docker-socket-proxy.
var sections = map[string]string{
	"AUTH": "auth", "BUILD": "build", "COMMIT": "commit", "CONFIGS": "configs",
	"CONTAINERS": "containers", "DISTRIBUTION": "distribution", "EVENTS": "events",
	"EXEC": "exec", "GRPC": "grpc", "IMAGES": "images", "INFO": "info",
	"NETWORKS": "networks", "NODES": "nodes", "PING": "_ping", "PLUGINS": "plugins",
	"SECRETS": "secrets", "SERVICES": "services", "SESSION": "session", "SWARM": "swarm",
	"SYSTEM": "system", "TASKS": "tasks", "VERSION": "version", "VOLUMES": "volumes",
}

// harmless are the sections that are open unless closed.
var harmless = []string{"EVENTS", "PING", "VERSION"}

// FromEnv reads a policy from variables: a section's name, POST or LOGS is "1"
// or "0", and ALLOW lists single endpoints, "POST /services/{id}/update, ...".
func FromEnv(lookup func(string) (string, bool)) (Policy, error) {
	var problems []error
	on := func(name string) bool {
		value, _ := lookup(name)
		switch value {
		case "1":
			return true
		case "0":
			return false
		case "":
			return slices.Contains(harmless, name)
		}
		problems = append(problems, fmt.Errorf("%s=%q: say 1 or 0", name, value))
		return false
	}

	p := Policy{sections: map[string]bool{}, writes: on("POST"), logs: on("LOGS")}
	for name, segment := range sections {
		if on(name) {
			p.sections[segment] = true
		}
	}
	list, _ := lookup("ALLOW")
	for entry := range strings.SplitSeq(list, ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		e, err := p.parseEndpoint(entry)
		if err != nil {
			problems = append(problems, fmt.Errorf("ALLOW: %q: %w", entry, err))
			continue
		}
		p.allowed = append(p.allowed, e)
	}
	if err := errors.Join(problems...); err != nil {
		return Policy{}, err
	}
	return p, nil
}

var (
	reads  = []string{http.MethodGet, http.MethodHead}
	writes = []string{http.MethodPost, http.MethodPut, http.MethodDelete}
)

func (p Policy) parseEndpoint(s string) (endpoint, error) {
	method, path, ok := strings.Cut(s, " ")
	if !ok || !slices.Contains(slices.Concat(reads, writes), method) {
		return endpoint{}, errors.New(`say METHOD /path, such as "POST /services/{id}/update"`)
	}
	rest, ok := strings.CutPrefix(strings.TrimSpace(path), "/")
	if !ok {
		return endpoint{}, errors.New("the path starts with /")
	}
	e := endpoint{method, strings.Split(rest, "/")}
	for i, segment := range e.segments {
		if i > 0 && isWildcard(segment) {
			continue
		}
		if err := checkSegment(segment); err != nil {
			return endpoint{}, err
		}
	}
	if !known(e.segments[0]) {
		return endpoint{}, fmt.Errorf("the Docker API has no /%s", e.segments[0])
	}
	if err := p.offLimits(e.segments); err != nil {
		return endpoint{}, err
	}
	return e, nil
}

func known(section string) bool {
	for _, s := range sections {
		if s == section {
			return true
		}
	}
	return false
}

func isWildcard(segment string) bool {
	return len(segment) > 2 && segment[0] == '{' && segment[len(segment)-1] == '}'
}

// Allows returns nil when a request may pass, and else the reason why not. The
// URI is that of the request line.
func (p Policy) Allows(method, requestURI string) error {
	t, err := parseTarget(requestURI)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if err := p.allows(method, t.segments); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

func (p Policy) allows(method string, segments []string) error {
	if err := p.offLimits(segments); err != nil {
		return err
	}
	if slices.ContainsFunc(p.allowed, func(e endpoint) bool { return e.matches(method, segments) }) {
		return nil
	}
	read := slices.Contains(reads, method)
	switch {
	case !read && !slices.Contains(writes, method):
		return fmt.Errorf("method %q is not part of the Docker API", method)
	case !p.sections[segments[0]]:
		return fmt.Errorf("/%s is not open", segments[0])
	case !read && !p.writes:
		return fmt.Errorf("%s is not open", method)
	case read && segments[0] == "containers" && !p.readsContainer(segments):
		return errors.New("this part of a container is not open")
	}
	return nil
}

// readsContainer lists what can be read of containers: their description, not
// their files.
func (p Policy) readsContainer(segments []string) bool {
	switch len(segments) {
	case 2:
		return segments[1] == "json"
	case 3:
		return slices.Contains([]string{"json", "top", "stats", "changes", "logs"}, segments[2])
	}
	return false
}

// offLimits refuses what gives a consumer the inside of a container, whatever
// is open: dockerd takes a container's name to the last slash, so that every
// segment counts.
func (p Policy) offLimits(segments []string) error {
	owner := segments[0]
	for _, part := range segments[min(2, len(segments)):] {
		switch {
		case part == "logs" && (owner == "containers" || owner == "services" || owner == "tasks"):
			if !p.logs {
				return errors.New("logs are not open")
			}
		case owner == "containers" && slices.Contains([]string{"archive", "export", "attach", "exec", "copy"}, part):
			return fmt.Errorf("%s of a container cannot be opened", part)
		}
	}
	return nil
}

// verbs are no names: "DELETE /containers/{id}" is not about them.
var verbs = []string{"create", "prune", "json", "get", "load", "search"}

func (e endpoint) matches(method string, segments []string) bool {
	if e.method != method || len(e.segments) != len(segments) {
		return false
	}
	for i, want := range e.segments {
		if isWildcard(want) {
			if slices.Contains(verbs, segments[i]) {
				return false
			}
		} else if want != segments[i] {
			return false
		}
	}
	return true
}

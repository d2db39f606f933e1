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
	on     map[string]bool // switches
	grants []grant
}

// grant opens one endpoint, whatever the switches say.
type grant struct {
	route *route
	name  string // of the only object; empty for any
}

// Allows returns nil when a request may pass, and else the reason why not. The
// URI is that of the request line.
func (p Policy) Allows(method, requestURI string) error {
	t, err := parseTarget(requestURI)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	_, err = p.admit(method, t)
	return err
}

// admit returns the route of a request that may pass.
func (p Policy) admit(method string, t target) (call, error) {
	c, err := identify(method, t)
	if err != nil {
		return c, err
	}
	if missing := p.missing(c); len(missing) > 0 {
		return c, fmt.Errorf("%w: %s needs %s", ErrRefused, c.route, strings.Join(missing, ", "))
	}
	return c, nil
}

// call is a request that was understood.
type call struct {
	route  *route
	name   string // of the object in the path
	target target

	services set // whose tasks a list of tasks may have, where that is narrowed
}

var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete}

func identify(method string, t target) (call, error) {
	if !slices.Contains(methods, method) {
		return call{}, fmt.Errorf("%w: method %q is not part of the Docker API", ErrRefused, method)
	}
	r, name, ok := find(method, t.segments)
	if !ok {
		return call{}, fmt.Errorf("%w: %s /%s is not part of the Docker API", ErrRefused, method, strings.Join(t.segments, "/"))
	}
	return call{route: r, name: name, target: t}, nil
}

// missing lists the switches that a call wants and that are off.
func (p Policy) missing(c call) []string {
	if slices.ContainsFunc(p.grants, func(g grant) bool { return g.route == c.route && (g.name == "" || g.name == c.name) }) {
		return nil
	}
	var out []string
	for _, name := range c.route.needs {
		if !p.on[name] && !(c.route.alone != "" && p.on[c.route.alone]) {
			out = append(out, name+"=1")
		}
	}
	if !c.route.reads() && !p.on["POST"] {
		out = append(out, "POST=1")
	}
	return out
}

func (e *environment) policy() Policy {
	p := Policy{on: map[string]bool{}}
	for _, v := range Variables {
		if (v.Group == Sections || v.Group == Parts || v.Group == Writes) && v.Name != "ALLOW" {
			p.on[v.Name] = e.on(v.Name)
		}
	}
	// Stopping is part of restarting.
	stop, _, _ := find(http.MethodPost, []string{"containers", "any", "stop"})
	if p.on["ALLOW_RESTARTS"] && p.on["POST"] {
		p.grants = append(p.grants, grant{route: stop})
	}
	for entry := range strings.FieldsFuncSeq(e.text("ALLOW"), func(r rune) bool { return r == ',' || r == '\n' }) {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		g, err := parseGrant(entry)
		if err != nil {
			e.fail("ALLOW", fmt.Errorf("%q: %w", entry, err))
			continue
		}
		p.grants = append(p.grants, g)
	}
	return p
}

// parseGrant reads "POST /services/{id}/update". What the placeholder is
// called does not matter.
func parseGrant(s string) (grant, error) {
	method, path, ok := strings.Cut(s, " ")
	if !ok || method == http.MethodHead || !slices.Contains(methods, method) {
		return grant{}, errors.New(`say METHOD /path, such as "POST /services/{id}/update"`)
	}
	rest, ok := strings.CutPrefix(strings.TrimSpace(path), "/")
	if !ok {
		return grant{}, errors.New("the path starts with /")
	}
	segments := strings.Split(rest, "/")
	literal := slices.Clone(segments)
	for i, segment := range segments {
		if isPlaceholder(segment) {
			literal[i] = "any"
		} else if err := checkSegment(segment); err != nil {
			return grant{}, err
		}
	}
	r, name, ok := find(method, literal)
	if !ok {
		return grant{}, errors.New("the Docker API has no such endpoint; {id} stands for a name, not for an action")
	}
	for i, segment := range segments {
		if !isPlaceholder(segment) {
			continue
		}
		if i >= len(r.pattern) || !isPlaceholder(r.pattern[i]) {
			return grant{}, fmt.Errorf("%s stands for a name, and there is none at that place", segment)
		}
		name = ""
	}
	return grant{r, name}, nil
}

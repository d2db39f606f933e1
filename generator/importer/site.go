package importer

import (
	"fmt"
	"math"
	"regexp"
	"strings"

	"skep/generator/problem"
)

// draft is a route on its way to x-ingress. Texts are as the file writes them,
// variables included.
type draft struct {
	host, listen, tls string

	port, scheme string
	paths        []string
	strip        string
	sso          bool
	bypass       []string
	ssoOnly      []string // the login is asked for on these paths alone
	allow        []string
	rate, body   string
	stream       bool
	health       []entry
	request      []entry
	response     []entry
	ownErrors    bool    // it has error pages of its own
	raw          []entry // labels without the leading "caddy."
	rawLabels    []int   // where each of raw stood, among the service's labels
	branches     []branch

	pos problem.Position
}

// site is one block of labels on its way.
type site struct {
	service   *service
	block     *directive
	addresses []address
	props     draft   // what holds for the whole site
	routes    []draft // without the props
	why       string  // it cannot be lifted, because
	notes     []Note  // said when it is lifted
	pos       problem.Position
}

type address struct {
	host, listen string
	plain        bool // http://
}

// unliftable says why a block stays as it is.
type unliftable string

func (u unliftable) Error() string { return string(u) }

func cannot(format string, args ...any) error { return unliftable(fmt.Sprintf(format, args...)) }

// lifter reads one site.
type lifter struct {
	im       *importer
	s        *service
	d        *directive
	matchers map[string]*directive
	notes    *[]Note
}

func (l *lifter) note(d *directive, what, why, remedy string) {
	*l.notes = append(*l.notes, Note{l.s.labels[d.labels[0]].pos, l.s.name, what, why, remedy})
}

// readSite reads a block that has the form of a site.
func (im *importer) readSite(s *service, block *directive) *site {
	out := &site{service: s, block: block, pos: s.labels[block.labels[0]].pos}
	if i := s.find(block.path); i >= 0 {
		out.pos = s.labels[i].pos
	}
	addresses, err := im.addresses(block)
	if err != nil {
		out.why = err.Error()
		return out
	}
	out.addresses = addresses
	l := &lifter{im: im, s: s, d: block, matchers: map[string]*directive{}, notes: &out.notes}
	out.props, out.routes, err = l.scope(block, 0)
	switch {
	case err != nil:
		out.why = err.Error()
	case len(out.routes) == 0:
		out.why = "nothing in it goes to a port of the service"
	}
	return out
}

var hostText = regexp.MustCompile(`^(\*\.)?[A-Za-z0-9_.-]*(\$\{?[A-Za-z0-9_]+(:?-[^}]*)?\}?[A-Za-z0-9_.-]*)*$`)

// addresses are what the block answers for.
func (im *importer) addresses(block *directive) ([]address, error) {
	var out []address
	for _, arg := range block.args {
		for part := range strings.SplitSeq(arg, ",") {
			if part == "" {
				continue
			}
			a := address{}
			rest := part
			if after, ok := strings.CutPrefix(rest, "http://"); ok {
				a.plain, rest = true, after
			} else if after, ok := strings.CutPrefix(rest, "https://"); ok {
				rest = after
			}
			a.host = rest
			if i := strings.LastIndex(rest, ":"); i >= 0 && !strings.Contains(rest[i:], "}") && !strings.Contains(rest[i:], "]") {
				a.host, a.listen = rest[:i], rest[i+1:]
			}
			switch {
			case strings.Contains(a.host, "/"):
				return nil, cannot("the address %s has a path", part)
			case strings.HasPrefix(a.host, "{"):
				return nil, cannot("the address %s comes from the ingress's environment", part)
			case a.host == "":
				return nil, cannot("the address %s names no host", part)
			case !hostText.MatchString(a.host):
				return nil, cannot("the address %s is not a host name", part)
			}
			switch {
			case a.listen == "443" && !a.plain:
				a.listen = ""
			case a.listen == "80":
				a.listen, a.plain = "", true
			case a.listen != "" && !isPort(a.listen):
				return nil, cannot("the address %s has no fixed port", part)
			}
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, cannot("it has no address")
	}
	return out, nil
}

func isPort(s string) bool {
	n, ok := index(s)
	return ok && n > 0 && n <= math.MaxUint16
}

package importer

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"skep/generator/problem"
)

// label is one label of a service and the list or mapping that it stands in.
type label struct {
	key, value string
	deploy     bool // under deploy.labels
	pos        problem.Position
}

// readLabels reads labels and deploy.labels, in either form.
func (im *importer) readLabels(s *service) []label {
	var out []label
	read := func(v any, deploy bool, path ...string) {
		switch v := v.(type) {
		case *mapping:
			for _, e := range v.entries {
				out = append(out, label{e.key, text(e.value), deploy, im.at(s, append(path, e.key)...)})
			}
		case []any:
			for i, item := range v {
				key, value, _ := strings.Cut(text(item), "=")
				out = append(out, label{key, value, deploy, im.at(s, append(path, strconv.Itoa(i))...)})
			}
		}
	}
	read(sub(s.def, "deploy", "labels"), true, "deploy", "labels")
	read(s.def.get("labels"), false, "labels")
	return out
}

// claim marks the label as said by a key now.
func (im *importer) claim(s *service, i int, key string) {
	if !s.claimed[i] {
		s.claimed[i] = true
		im.lift(s.labels[i].pos, s.name, "label "+s.labels[i].key, key)
	}
}

// find returns the index of a label; deploy labels come first.
func (s *service) find(key string) int {
	return slices.IndexFunc(s.labels, func(l label) bool { return l.key == key })
}

// writeLabels leaves in the file the labels that nothing claimed.
func (im *importer) writeLabels() {
	for _, s := range im.services {
		if len(s.claimed) == 0 && !s.renamed {
			continue
		}
		im.writeLabelsOf(s, s.def, false)
		if deploy, ok := s.def.get("deploy").(*mapping); ok {
			im.writeLabelsOf(s, deploy, true)
			s.def.setOrDelete("deploy", deploy)
		}
	}
}

func (im *importer) writeLabelsOf(s *service, in *mapping, deploy bool) {
	if !slices.ContainsFunc(s.labels, func(l label) bool { return l.deploy == deploy }) {
		return
	}
	var n int
	keep := func() bool {
		for ; n < len(s.labels); n++ {
			if s.labels[n].deploy == deploy {
				n++
				return !s.claimed[n-1]
			}
		}
		return true
	}
	switch v := in.get("labels").(type) {
	case *mapping:
		out := &mapping{}
		for _, e := range v.entries {
			if keep() {
				if l := s.labels[n-1]; e.key != l.key || text(e.value) != l.value {
					e = entry{l.key, l.value}
				}
				out.entries = append(out.entries, e)
			}
		}
		in.setOrDelete("labels", out)
	case []any:
		out := []any{}
		for _, item := range v {
			if !keep() {
				continue
			}
			if l := s.labels[n-1].key + "=" + s.labels[n-1].value; strings.TrimSuffix(l, "=") != strings.TrimSuffix(text(item), "=") {
				item = l
			}
			out = append(out, item)
		}
		in.setOrDelete("labels", out)
	}
}

// directive is a label as caddy-docker-proxy reads it: a line of a Caddyfile
// and the block under it.
type directive struct {
	path     string // the whole key, as it was written
	name     string
	order    int // of "0_handle", or the largest
	value    string
	args     []string
	children []*directive
	labels   []int // indexes of the labels below and at this directive
	first    int   // place among the labels
}

var caddyLabel = regexp.MustCompile(`^caddy(_\d+)?(\.|$)`)

// labelName is caddy-docker-proxy's way to read a part of a key.
var labelName = regexp.MustCompile(`^(?:(\d+)_)?(.+?)(?:_(\d+))?$`)

// directives reads the caddy labels of a service: one tree a block.
func (s *service) directives() (blocks []*directive, faulty []int) {
	byPath := map[string]*directive{}
	var create func(path string, at int) *directive
	create = func(path string, at int) *directive {
		if d, ok := byPath[path]; ok {
			return d
		}
		d := &directive{path: path, order: math.MaxInt32, first: at}
		parent, last := splitKey(path)
		m := labelName.FindStringSubmatch(last)
		if m == nil {
			return nil
		}
		d.name = strings.ReplaceAll(m[2], `\.`, ".")
		if m[1] != "" {
			d.order, _ = strconv.Atoi(m[1])
		}
		if parent == "" {
			blocks = append(blocks, d)
		} else {
			above := create(parent, at)
			if above == nil {
				return nil
			}
			above.children = append(above.children, d)
		}
		byPath[path] = d
		return d
	}
	for i, l := range s.labels {
		if !caddyLabel.MatchString(l.key) {
			continue
		}
		d := create(l.key, i)
		if d == nil {
			faulty = append(faulty, i)
			continue
		}
		d.value, d.args = l.value, lex(l.value)
		for path := l.key; path != ""; path, _ = splitKey(path) {
			byPath[path].labels = append(byPath[path].labels, i)
		}
	}
	for _, d := range byPath {
		slices.SortStableFunc(d.children, func(a, b *directive) int { return a.first - b.first })
	}
	slices.SortStableFunc(blocks, func(a, b *directive) int { return a.first - b.first })
	return blocks, faulty
}

// splitKey cuts a key at its last dot that is not escaped.
func splitKey(key string) (parent, last string) {
	for i := len(key) - 1; i >= 0; i-- {
		if key[i] == '.' && (i == 0 || key[i-1] != '\\') {
			return key[:i], key[i+1:]
		}
	}
	return "", key
}

// lex splits a value into Caddyfile tokens; a template ({{ }}) is one.
// https://caddyserver.com/docs/caddyfile/concepts#tokens-and-quotes
func lex(s string) []string {
	var out []string
	var token strings.Builder
	open := false
	flush := func() {
		if open {
			out = append(out, token.String())
		}
		token.Reset()
		open = false
	}
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case strings.HasPrefix(s[i:], "{{"):
			end := strings.Index(s[i:], "}}")
			if end < 0 {
				end = len(s) - i - 2
			}
			for i+end+2 < len(s) && s[i+end+2] == '}' { // {{upstreams ${PORT}}}
				end++
			}
			token.WriteString(s[i : i+end+2])
			open = true
			i += end + 2
		case (c == '"' || c == '`') && !open:
			open = true
			i++
			for i < len(s) && s[i] != c {
				if c == '"' && s[i] == '\\' && i+1 < len(s) && s[i+1] == '"' {
					i++
				}
				token.WriteByte(s[i])
				i++
			}
			i++
			flush()
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			flush()
			i++
		default:
			open = true
			token.WriteByte(c)
			i++
		}
	}
	flush()
	return out
}

func (d *directive) arg(i int) string {
	if i < len(d.args) {
		return d.args[i]
	}
	return ""
}

// child finds a directive of the block by name.
func (d *directive) child(name string) *directive {
	i := slices.IndexFunc(d.children, func(c *directive) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return d.children[i]
}

// matcher splits a directive's matcher from its arguments.
func (d *directive) matcher() (matcher string, rest []string) {
	if first := d.arg(0); strings.HasPrefix(first, "@") || strings.HasPrefix(first, "/") || first == "*" {
		return first, d.args[1:]
	}
	return "", d.args
}

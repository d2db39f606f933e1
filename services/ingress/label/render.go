package label

import (
	"cmp"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	fragments "github.com/lucaslorentz/caddy-docker-proxy/v2/caddyfile"
)

// widths are printf's that make much of little.
var widths = regexp.MustCompile(`%[^a-zA-Z%]*(\d{4}|\*)`)

// Rendered is what one source says, each top-level block on its own.
type Rendered struct {
	Source   *Source
	Blocks   []*Block
	Refusals []Refusal
}

// Block is a top-level block of a Caddyfile: global options, a snippet, a
// named route or a site.
type Block struct {
	source    *Source
	label     string // the label that opens it
	fragment  *fragments.Block
	text      string
	addresses []httpcaddyfile.Address
	imports   []string
}

// FromLabels turns labels into blocks with caddy-docker-proxy's own code,
// which panics on a key with an empty part, such as "caddy.". It is given the
// functions that the labels use: it registers every one anew for every label.
func FromLabels(labels map[string]string, data any, functions func(uses func(name string) bool) template.FuncMap) (blocks *fragments.Container, err error) {
	defer func() {
		if recover() != nil {
			blocks, err = nil, errors.New("a label's key has an empty part")
		}
	}()
	funcs := template.FuncMap{}
	var templates strings.Builder
	for _, value := range labels {
		if strings.Contains(value, "{{") {
			templates.WriteString(value + "\n")
		}
	}
	if text := templates.String(); text != "" {
		uses := func(name string) bool { return strings.Contains(text, name) }
		funcs = functions(uses)
		maps.DeleteFunc(funcs, func(name string, _ any) bool { return !uses(name) })
	}
	return fragments.FromLabels(labels, data, funcs)
}

// Render turns a source into blocks. What fails is refused, block by block.
func Render(s *Source, p Policy) *Rendered {
	out := &Rendered{Source: s}
	if s.Kind == KindConfig || s.Kind == KindFile {
		out.caddyfile(p)
		return out
	}
	roots := map[string]map[string]string{}
	for key, value := range s.Labels {
		root, _, _ := strings.Cut(key, ".")
		if roots[root] == nil {
			roots[root] = map[string]string{}
		}
		roots[root][key] = value
	}
	for _, root := range slices.Sorted(maps.Keys(roots)) {
		block, refusal := renderRoot(s, root, roots[root], p)
		out.add(block, refusal, p)
	}
	if s.Unreachable {
		out.Refusals = append(out.Refusals, *refuse(s, "", RuleNetwork, "it shares no network with the ingress, which can reach none of its upstreams"))
	}
	return out
}

// WithoutOptions is the same without global options.
func (r *Rendered) WithoutOptions() *Rendered {
	out := *r
	out.Blocks = slices.DeleteFunc(slices.Clone(r.Blocks), (*Block).global)
	return &out
}

func (r *Rendered) add(b *Block, refusal *Refusal, p Policy) {
	if refusal == nil {
		refusal = b.inspect(p)
	}
	if refusal != nil {
		r.Refusals = append(r.Refusals, *refusal)
		return
	}
	r.Blocks = append(r.Blocks, b)
}

func (r *Rendered) caddyfile(p Policy) {
	all, err := fragments.Unmarshal(r.Source.Caddyfile)
	if err != nil {
		r.Refusals = append(r.Refusals, *refuse(r.Source, "", RuleSyntax, "%v", err))
		return
	}
	for _, f := range all.Children {
		r.add(&Block{source: r.Source, fragment: f}, nil, p)
	}
}

func renderRoot(s *Source, root string, labels map[string]string, p Policy) (*Block, *Refusal) {
	all := Functions
	if s.Offline {
		all = StandIns
	}
	functions := func(func(string) bool) template.FuncMap { return all(s.Targets) }
	if !s.Trusted {
		functions = func(uses func(string) bool) template.FuncMap { return restricted(all(s.Targets), p, uses) }
		for _, key := range slices.Sorted(maps.Keys(labels)) {
			if !strings.Contains(labels[key], "{{") {
				continue
			}
			if err := checkTemplate(labels[key], p); err != nil {
				return nil, refuse(s, key, RuleTemplate, "%v", err)
			}
		}
	}
	blocks, err := FromLabels(labels, s.Data, functions)
	if err != nil {
		key := brokenLabel(labels, s, functions)
		rule := RuleTemplate
		if no, ok := errors.AsType[forbidden](err); ok && no.kind == Env {
			rule, err = RuleEnv, no
		} else if strings.HasPrefix(err.Error(), "a label's key") {
			rule = RuleSyntax
		}
		return nil, refuse(s, key, rule, "%v", err)
	}
	if len(blocks.Children) != 1 {
		return nil, refuse(s, root, RuleSyntax, "the labels make %d blocks", len(blocks.Children))
	}
	return &Block{source: s, label: root, fragment: blocks.Children[0]}, nil
}

// brokenLabel is the first label that fails on its own.
func brokenLabel(labels map[string]string, s *Source, functions func(func(string) bool) template.FuncMap) string {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if _, err := FromLabels(map[string]string{key: labels[key]}, s.Data, functions); err != nil {
			return key
		}
	}
	return ""
}

func (b *Block) global() bool  { return b.fragment.IsGlobalBlock() }
func (b *Block) snippet() bool { return b.fragment.IsSnippet() }
func (b *Block) named() bool {
	return len(b.fragment.Keys) == 1 && strings.HasPrefix(b.fragment.Keys[0], "&(") && strings.HasSuffix(b.fragment.Keys[0], ")")
}

// snippetName is the name of a snippet or a named route.
func (b *Block) snippetName() string {
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(b.fragment.Keys[0], "&"), "("), ")")
}

// inspect reads the block's text with Caddy's own lexer, for caddy-docker-proxy
// does not quote everything that Caddy would take apart.
func (b *Block) inspect(p Policy) *Refusal {
	b.text = string(b.fragment.Marshal())
	s := b.source
	if b.global() {
		if !s.Trusted {
			return refuse(s, b.firstLabel(), RuleGlobal, "only a service with the label %s, of a stack that the ingress trusts, may set global options", TrustedLabel)
		}
		return nil
	}
	if !s.Trusted {
		if placeholder, ok := braceEnv(b.text, p); !ok {
			return refuse(s, b.labelOf(placeholder), RuleEnv, "%s} reads the ingress's environment", placeholder)
		}
	}
	if refusal := b.readImports(); refusal != nil {
		return refusal
	}
	if b.snippet() || b.named() {
		return nil
	}
	return b.parseAddresses()
}

func (b *Block) parseAddresses() *Refusal {
	for _, key := range b.fragment.Keys {
		for text := range strings.SplitSeq(key, ",") {
			if text == "" {
				continue
			}
			address, err := httpcaddyfile.ParseAddress(text)
			if err != nil {
				return refuse(b.source, b.label, RuleSyntax, "address %q: %v", text, err)
			}
			b.addresses = append(b.addresses, address.Normalize())
		}
	}
	if len(b.addresses) == 0 {
		return refuse(b.source, b.label, RuleSyntax, "there is no address")
	}
	return nil
}

// braceEnv finds the first {$NAME} that the policy does not open. A default
// could be any text, and one that is not closed would end in another block.
func braceEnv(text string, p Policy) (placeholder string, ok bool) {
	for {
		_, rest, found := strings.Cut(text, "{$")
		if !found {
			return "", true
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed || !p.Allows(Env, name) {
			name, _, _ = strings.Cut(name, "\n")
			return "{$" + name, false
		}
		text = after
	}
}

// firstLabel is the label to name for a block without an address.
func (b *Block) firstLabel() string {
	for _, key := range slices.Sorted(maps.Keys(b.source.Labels)) {
		if root, _, _ := strings.Cut(key, "."); root == b.label {
			return key
		}
	}
	return b.label
}

// labelOf is the deepest label of the block whose value or key holds a text,
// else the one that opens the block.
func (b *Block) labelOf(text string) string {
	if found := b.find(text); found != "" {
		return found
	}
	return b.label
}

func (b *Block) find(text string) string {
	exact, below := "", ""
	for _, key := range slices.Sorted(maps.Keys(b.source.Labels)) {
		if root, _, _ := strings.Cut(key, "."); root != b.label {
			continue
		}
		deeper := func(than string) bool { return strings.Count(key, ".") >= strings.Count(than, ".") }
		switch {
		case strings.Contains(b.source.Labels[key], text) || strings.HasSuffix(key, "."+text):
			if deeper(exact) {
				exact = key
			}
		case strings.Contains(key, "."+text+".") && deeper(below):
			below = key
		}
	}
	return cmp.Or(exact, below)
}

package label

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	fragments "github.com/lucaslorentz/caddy-docker-proxy/v2/caddyfile"
)

// SiteID names a site: its addresses, as its labels write them.
type SiteID string

// Site is a site block and everything that it needs to be read alone.
type Site struct {
	ID      SiteID
	Keys    []string // its addresses
	Hosts   []Host
	Stack   Stack
	Trusted bool // every source of it is
	Sources []*Source
	Text    string
	// Prelude is the snippets and the named routes that the text uses.
	Prelude string
	// Granted is the part of the prelude that trusted services wrote.
	Granted string
	// Libraries are the sources that wrote the prelude.
	Libraries []*Source

	order  int
	blocks []*Block
}

// LabelOf finds the source and the label whose value holds a text; without
// one, the first source and no label.
func (s *Site) LabelOf(text string) (*Source, string) {
	for _, b := range s.blocks {
		if label := b.find(text); label != "" {
			return b.source, label
		}
	}
	return s.blocks[0].source, ""
}

// Plan is what is to be served.
type Plan struct {
	Globals  string
	Options  []*Source // those that wrote the global options
	Sites    []*Site   // in the order in which Caddy is told of them
	Claims   []Claim
	Held     []Host // that nobody answers for until their stack is back or gone
	Refusals []Refusal
}

// Assemble joins what all sources say. Blocks with the same addresses merge as
// they do in caddy-docker-proxy, within one stack.
func Assemble(rendered []*Rendered, claims []Claim, p Policy, now time.Time, grace time.Duration) *Plan {
	a := &assembly{policy: p, plan: &Plan{}}
	var sites []*Block
	global := fragments.CreateContainer()
	for _, r := range rendered {
		a.plan.Refusals = append(a.plan.Refusals, r.Refusals...)
		for _, b := range r.Blocks {
			switch {
			case b.global():
				global.Merge(containerOf(b.fragment))
				if !slices.Contains(a.plan.Options, b.source) {
					a.plan.Options = append(a.plan.Options, b.source)
				}
			case b.snippet() || b.named():
				a.snippets = append(a.snippets, b)
			default:
				sites = append(sites, b)
			}
		}
	}
	if len(global.Children) > 0 {
		a.plan.Globals = string(global.Marshal())
	}
	a.share()
	a.claim(sites, claims, now, grace)
	slices.SortStableFunc(a.plan.Sites, func(x, y *Site) int {
		return cmp.Or(cmp.Compare(x.order, y.order), slices.Compare(x.Keys, y.Keys))
	})
	return a.plan
}

type assembly struct {
	policy   Policy
	plan     *Plan
	snippets []*Block
	shared   map[string]*library // by the key that opens it, for every stack
	own      map[ownKey]*library // for one stack alone
	private  map[Stack]bool      // stacks that have such a one
	preludes map[string]prelude  // of the imports that use shared snippets alone
	wild     []Claim
}

type ownKey struct {
	stack Stack
	key   string
}

// library is a snippet, merged from all who write it.
type library struct {
	key     string
	text    string
	imports []string
	trusted bool
	sources []*Source
	merged  *fragments.Container
}

func containerOf(blocks ...*fragments.Block) *fragments.Container {
	c := fragments.CreateContainer()
	for _, b := range blocks {
		c.AddBlock(clone(b))
	}
	return c
}

// clone copies a block, for merging changes it.
func clone(b *fragments.Block) *fragments.Block {
	inner := fragments.CreateContainer()
	for _, child := range b.Children {
		inner.AddBlock(clone(child))
	}
	return &fragments.Block{Container: inner, Order: b.Order, Keys: slices.Clone(b.Keys)}
}

// share sorts snippets into those for everybody and those for their stack.
func (a *assembly) share() {
	a.shared, a.own = map[string]*library{}, map[ownKey]*library{}
	a.private, a.preludes = map[Stack]bool{}, map[string]prelude{}
	open := func(b *Block) bool { return b.source.Trusted || a.policy.Allows(Import, b.snippetName()) }
	// What trusted services write comes first: nobody adds to it.
	slices.SortStableFunc(a.snippets, func(x, y *Block) int {
		switch {
		case x.source.Trusted == y.source.Trusted:
			return 0
		case x.source.Trusted:
			return -1
		}
		return 1
	})
	for _, b := range a.snippets {
		key := b.fragment.Keys[0]
		if taken := a.shared[key]; taken != nil && taken.trusted && !b.source.Trusted {
			a.plan.Refusals = append(a.plan.Refusals, *refuse(b.source, b.label, RuleConflict, "the ingress's own %s is called so", key))
			continue
		}
		var into *library
		if open(b) {
			into = a.shared[key]
		} else {
			into = a.own[ownKey{b.source.Stack, key}]
		}
		if into == nil {
			into = &library{key: key, trusted: b.source.Trusted, merged: fragments.CreateContainer()}
			if open(b) {
				a.shared[key] = into
			} else {
				a.own[ownKey{b.source.Stack, key}] = into
				a.private[b.source.Stack] = true
			}
		}
		into.merged.Merge(containerOf(b.fragment))
		into.imports = append(into.imports, b.imports...)
		into.sources = append(into.sources, b.source)
		into.text = ""
	}
}

func (a *assembly) library(stack Stack, key string) *library {
	l := a.own[ownKey{stack, key}]
	if l == nil {
		l = a.shared[key]
	}
	if l != nil && l.text == "" {
		l.text = string(l.merged.Marshal())
	}
	return l
}

// prelude is what a site's text needs before it.
type prelude struct {
	text, granted string
	sources       []*Source
}

// prelude is the text of the snippets that a site needs, each before who
// imports it. An import that is no snippet is a file of the ingress.
func (a *assembly) prelude(stack Stack, trusted bool, text string, imports []string) (prelude, string) {
	if a.private[stack] || strings.Contains(text, "invoke") {
		return a.newPrelude(stack, trusted, text, imports)
	}
	key := strconv.FormatBool(trusted) + "\x00" + strings.Join(imports, "\x00")
	if known, ok := a.preludes[key]; ok {
		return known, ""
	}
	p, missing := a.newPrelude(stack, trusted, text, imports)
	if missing == "" {
		a.preludes[key] = p
	}
	return p, missing
}

func (a *assembly) newPrelude(stack Stack, trusted bool, text string, imports []string) (prelude, string) {
	var out, granted strings.Builder
	var sources []*Source
	write := func(l *library) {
		sources = append(sources, l.sources...)
		out.WriteString(l.text)
		if l.trusted {
			granted.WriteString(l.text)
		}
	}
	seen := map[string]bool{}
	var add func(names []string, trusted bool) string
	add = func(names []string, trusted bool) string {
		for _, name := range names {
			if seen[name] {
				continue
			}
			seen[name] = true
			l := a.library(stack, "("+name+")")
			switch {
			case l != nil:
				if missing := add(l.imports, l.trusted); missing != "" {
					return missing
				}
				write(l)
			case !trusted && !a.policy.Allows(File, name):
				return name
			}
		}
		return ""
	}
	missing := add(imports, trusted)
	if strings.Contains(text, "invoke") || strings.Contains(out.String(), "invoke") {
		for _, key := range a.named(stack) {
			l := a.library(stack, key)
			if absent := add(l.imports, l.trusted); missing == "" {
				missing = absent
			}
			write(l)
		}
	}
	return prelude{out.String(), granted.String(), sources}, missing
}

// named are the named routes that a stack may use.
func (a *assembly) named(stack Stack) []string {
	var keys []string
	for key := range a.shared {
		keys = append(keys, key)
	}
	for k := range a.own {
		if k.stack == stack {
			keys = append(keys, k.key)
		}
	}
	keys = slices.DeleteFunc(keys, func(key string) bool { return !strings.HasPrefix(key, "&") })
	slices.Sort(keys)
	return slices.Compact(keys)
}

// claim gives hosts to stacks and makes sites of what is theirs.
func (a *assembly) claim(blocks []*Block, before []Claim, now time.Time, grace time.Duration) {
	var wishes []wish
	for _, b := range blocks {
		for _, address := range b.addresses {
			wishes = append(wishes, wish{Host(address.Host), b.source.Stack, b.source.Created, b.source.Name})
		}
	}
	a.plan.Claims = a.policy.settleReserved(before, wishes, now, grace)
	if !a.policy.Open {
		a.plan.Held = hold(a.plan.Claims)
	}
	a.wild = wildcards(a.plan.Claims)
	owners := make(map[Host]Stack, len(a.plan.Claims))
	for _, c := range a.plan.Claims {
		owners[c.Host] = c.Stack
	}

	sites := map[SiteID]*Site{}
	of := map[string]SiteID{} // address -> the site that has it
	for _, b := range blocks {
		if refusal := a.notTheirs(b, owners); refusal != nil {
			a.plan.Refusals = append(a.plan.Refusals, *refusal)
			continue
		}
		if refusal := a.add(b, sites, of); refusal != nil {
			a.plan.Refusals = append(a.plan.Refusals, *refusal)
		}
	}
	for _, s := range a.plan.Sites {
		s.merge()
	}
}

func (a *assembly) notTheirs(b *Block, owners map[Host]Stack) *Refusal {
	if a.policy.Open {
		return nil
	}
	for _, address := range b.addresses {
		if w, ok := a.policy.reserved(a.wild, Host(address.Host), b.source.Stack); ok {
			return refuse(b.source, b.label, RuleReserve, "%s lies below %s, which is reserved and belongs to stack %q", address.Host, w.Host, w.Stack)
		}
		if stack := owners[Host(address.Host)]; stack != b.source.Stack {
			return refuse(b.source, b.label, RuleClaim, "%s belongs to stack %q", cmp.Or(address.Host, "every other host"), stack)
		}
	}
	return nil
}

func (a *assembly) add(b *Block, sites map[SiteID]*Site, of map[string]SiteID) *Refusal {
	id := SiteID(strings.Join(b.fragment.Keys, " "))
	for _, address := range b.addresses {
		if taken, ok := of[place(address)]; ok && taken != id {
			return refuse(b.source, b.label, RuleConflict, "%s is also an address of the site %q; two blocks merge only if all their addresses are the same", address, taken)
		}
	}
	before, missing := a.prelude(b.source.Stack, b.source.Trusted, b.text, b.imports)
	if missing != "" {
		return refuse(b.source, b.labelOf(missing), RuleSnippet, "there is no snippet %q that is shared", missing)
	}
	s := sites[id]
	if s == nil {
		s = &Site{ID: id, Keys: b.fragment.Keys, Stack: b.source.Stack, Trusted: true, order: b.fragment.Order, Prelude: before.text, Granted: before.granted, Libraries: before.sources}
		for _, address := range b.addresses {
			of[place(address)] = id
			s.Hosts = append(s.Hosts, Host(address.Host))
		}
		sites[id] = s
		a.plan.Sites = append(a.plan.Sites, s)
	} else if s.Prelude != before.text {
		var imports []string
		var text string
		for _, other := range append(slices.Clone(s.blocks), b) {
			imports = append(imports, other.imports...)
			text += other.text
		}
		both, _ := a.prelude(s.Stack, true, text, imports)
		s.Prelude, s.Granted, s.Libraries = both.text, both.granted, both.sources
	}
	s.Trusted = s.Trusted && b.source.Trusted
	s.blocks = append(s.blocks, b)
	if !slices.Contains(s.Sources, b.source) {
		s.Sources = append(s.Sources, b.source)
	}
	return nil
}

// place is what no two sites may have in common.
func place(a httpcaddyfile.Address) string {
	return a.Scheme + "://" + a.Host + ":" + a.Port + a.Path
}

// Only is the site as some of its sources write it.
func (s *Site) Only(sources []*Source) *Site {
	out := *s
	out.Sources, out.blocks, out.Trusted = sources, nil, true
	for _, b := range s.blocks {
		if slices.Contains(sources, b.source) {
			out.blocks = append(out.blocks, b)
			out.Trusted = out.Trusted && b.source.Trusted
		}
	}
	out.merge()
	return &out
}

func (s *Site) merge() {
	if len(s.blocks) == 1 {
		s.Text = s.blocks[0].text
		return
	}
	all := fragments.CreateContainer()
	for _, b := range s.blocks {
		all.Merge(containerOf(b.fragment))
	}
	s.Text = string(all.Marshal())
}

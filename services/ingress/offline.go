package ingress

import (
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/lucaslorentz/caddy-docker-proxy/v2/caddyfile"

	"skep/generator/stack"
	"skep/services/ingress/frame"
	"skep/services/ingress/label"
)

// Offline asks the ingress's own code, without a network or a daemon, whether
// it would accept a set of labels.
type Offline struct {
	// Policy is what the ingress is told that labels may do. Without one, Caddy
	// alone is asked: a host may be several stacks', and labels may do anything.
	Policy *label.Policy

	unreadable *stack.Refusal // instead of a policy
}

// Refusals returns what the ingress would refuse, in order of service. It
// stops early when ctx is done and then says so in a refusal without a service.
func (o Offline) Refusals(ctx context.Context, sets []stack.LabelSet) []stack.Refusal {
	services, refusals := renderAll(sets)
	if o.unreadable != nil {
		refusals = append(refusals, *o.unreadable)
	}
	if len(services) == 0 {
		return refusals
	}

	caddyMu.Lock()
	defer caddyMu.Unlock()
	storage, err := os.MkdirTemp("", "skep-ingress-")
	if err != nil {
		return append(refusals, stack.Refusal{Err: fmt.Errorf("make a scratch directory: %w", err)})
	}
	defer os.RemoveAll(storage)

	s := &search{ctx: ctx, storage: storage, usual: map[string]string{}}
	refusals = append(refusals, s.run(services)...)
	if o.Policy != nil {
		refusals = append(refusals, o.held(ctx, sets, refusals)...)
	}
	if err := ctx.Err(); err != nil {
		return append(refusals, stack.Refusal{Err: fmt.Errorf("check labels: %w", err)})
	}
	slices.SortStableFunc(refusals, func(a, b stack.Refusal) int { return a.Service.Compare(b.Service) })
	return refusals
}

// search finds the services that make Caddy refuse a configuration.
type search struct {
	ctx     context.Context
	storage string
	base    []rendered        // snippets and global options, accepted by now
	usual   map[string]string // error -> the label that was to blame the last time
}

// portion is how many sites are checked at once. The time that Caddy takes to
// copy a snippet into a site grows with the length of the whole file.
const portion = 50

func (s *search) run(services []rendered) []stack.Refusal {
	for _, r := range services {
		if r.shared() {
			s.base = append(s.base, r)
		}
	}
	if s.check(s.base) != nil {
		base := s.base
		s.base = nil
		return s.blame(base)
	}
	groups := bySite(slices.DeleteFunc(slices.Clone(services), rendered.shared))
	var found []stack.Refusal
	for some := range slices.Chunk(kinds(groups), portion) {
		found = append(found, s.split(some)...)
	}
	if len(found) > 0 || len(groups) <= portion || s.ctx.Err() != nil {
		return found
	}
	// What is left is sites that are refused together, such as HTTP and HTTPS
	// on one port.
	if s.check(firsts(kinds(outlines(services)))) == nil {
		return nil
	}
	if err := s.check(services); err != nil {
		return s.clash(groups, err)
	}
	return nil
}

// outlines leaves of each site its addresses and how it listens. A site needs
// a directive to have braces.
func outlines(services []rendered) [][]rendered {
	var out [][]rendered
	for _, r := range services {
		r.blocks = clone(r.blocks)
		for _, b := range r.blocks.Children {
			if b.IsGlobalBlock() || b.IsSnippet() {
				continue
			}
			b.Children = slices.DeleteFunc(b.Children, func(c *caddyfile.Block) bool {
				return c.GetFirstKey() != "tls" && c.GetFirstKey() != "bind"
			})
			b.AddBlock(&caddyfile.Block{Container: caddyfile.CreateContainer(), Keys: []string{"abort"}})
		}
		out = append(out, []rendered{r})
	}
	return out
}

// check adapts and validates services, without the base.
func (s *search) check(services []rendered) error {
	if s.ctx.Err() != nil || len(services) == 0 {
		return nil
	}
	config, _, err := adapt(join(services))
	if err != nil {
		return err
	}
	if err := validate(config, s.storage); err != nil {
		return frame.Plain(err)
	}
	return nil
}

// with checks services together with the base.
func (s *search) with(services ...rendered) error {
	return s.check(slices.Concat(s.base, services))
}

// split halves the kinds until it has those that are refused on their own.
func (s *search) split(kinds []kind) []stack.Refusal {
	if len(kinds) == 0 || s.with(firsts(kinds)...) == nil {
		return nil
	}
	if len(kinds) > 1 {
		half := len(kinds) / 2
		return append(s.split(kinds[:half]), s.split(kinds[half:])...)
	}
	var found []stack.Refusal
	for _, group := range kinds[0] {
		found = append(found, s.blame(group)...)
	}
	return found
}

// clash names the first group that is refused because of those before it.
func (s *search) clash(groups [][]rendered, err error) []stack.Refusal {
	ok, bad := 0, len(groups)
	for bad-ok > 1 {
		middle := (ok + bad) / 2
		if e := s.with(slices.Concat(groups[:middle]...)...); e != nil {
			bad, err = middle, e
		} else {
			ok = middle
		}
	}
	var out []stack.Refusal
	for _, r := range groups[bad-1] {
		out = append(out, stack.Refusal{Service: r.set.Service, Err: err})
	}
	return out
}

// blame finds which of the services of one site are refused: those whose
// absence mends it, else those that are refused alone, else all.
func (s *search) blame(group []rendered) []stack.Refusal {
	err := s.with(group...)
	if err == nil {
		return nil
	}
	culprits := group
	if len(group) > 1 {
		mends := func(i int) bool {
			return s.with(slices.Delete(slices.Clone(group), i, i+1)...) == nil
		}
		alone := func(i int) bool { return s.with(group[i]) != nil }
		for _, guilty := range []func(int) bool{mends, alone} {
			if found := pick(group, guilty); len(found) > 0 {
				culprits = found
				break
			}
		}
	}
	var out []stack.Refusal
	for _, c := range culprits {
		others := slices.DeleteFunc(slices.Clone(group), func(r rendered) bool { return r.set.Service == c.set.Service })
		e := err
		if own := s.with(c); own != nil && len(culprits) > 1 {
			others, e = nil, own
		}
		out = append(out, stack.Refusal{Service: c.set.Service, Label: s.label(c, others, e), Err: e})
	}
	return out
}

func pick(group []rendered, guilty func(int) bool) []rendered {
	var out []rendered
	for i := range group {
		if guilty(i) {
			out = append(out, group[i])
		}
	}
	return out
}

// label finds the label to blame: one whose value the error quotes and whose
// absence changes the error, else one without which Caddy accepts the service,
// else one without which it complains of something else. A deeper label says more.
func (s *search) label(culprit rendered, others []rendered, refused error) string {
	without := func(label string) error {
		labels := maps.Clone(culprit.set.Labels)
		maps.DeleteFunc(labels, func(key, _ string) bool { return key == label || strings.HasPrefix(key, label+".") })
		r, err := render(stack.LabelSet{Service: culprit.set.Service, Labels: labels})
		if err != nil {
			return err
		}
		return s.with(append(slices.Clone(others), r)...)
	}
	if usual, ok := s.usual[refused.Error()]; ok && culprit.set.Labels[usual] != "" && without(usual) == nil {
		return usual
	}

	var mends, changes string
	for _, label := range deepestFirst(culprit.set.Labels) {
		err := without(label)
		if err != nil && err.Error() == refused.Error() {
			continue
		}
		if quotes(refused, culprit.set.Labels[label]) {
			return label
		}
		if err == nil && mends == "" {
			mends = label
		}
		if changes == "" {
			changes = label
		}
	}
	if mends != "" {
		s.usual[refused.Error()] = mends
		return mends
	}
	return changes
}

// deepestFirst orders labels by depth, without those that open a site.
func deepestFirst(labels map[string]string) []string {
	inner := slices.DeleteFunc(slices.Sorted(maps.Keys(labels)), func(label string) bool { return !strings.Contains(label, ".") })
	slices.SortStableFunc(inner, func(a, b string) int { return strings.Count(b, ".") - strings.Count(a, ".") })
	return inner
}

// quotes reports whether an error quotes a word of a label's value.
func quotes(err error, value string) bool {
	return slices.ContainsFunc(strings.Fields(value), func(word string) bool {
		return slices.ContainsFunc([]string{"'", `"`, "`"}, func(mark string) bool {
			return strings.Contains(err.Error(), mark+word+mark)
		})
	})
}

// bySite groups the services that share a site: only together do they say
// what Caddy will see.
func bySite(services []rendered) [][]rendered {
	var groups [][]rendered
	of := map[string]int{} // site -> index into groups
	for _, r := range services {
		sites := r.sites()
		at := -1
		for _, site := range sites {
			i, ok := of[site]
			switch {
			case !ok || i == at:
			case at < 0:
				at = i
			default: // r joins two groups
				groups[at] = append(groups[at], groups[i]...)
				groups[i] = nil
				for s, g := range of {
					if g == i {
						of[s] = at
					}
				}
			}
		}
		if at < 0 {
			at = len(groups)
			groups = append(groups, nil)
		}
		groups[at] = append(groups[at], r)
		for _, site := range sites {
			of[site] = at
		}
	}
	return slices.DeleteFunc(groups, func(g []rendered) bool { return len(g) == 0 })
}

// kind is groups that differ in names and ports alone: Caddy takes all or none.
type kind [][]rendered

func kinds(groups [][]rendered) []kind {
	var out []kind
	of := map[string]int{} // shape -> index into out
	for _, group := range groups {
		shape := shape(group)
		i, ok := of[shape]
		if !ok {
			i = len(out)
			of[shape] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], group)
	}
	return out
}

// firsts are the services that stand for their kinds.
func firsts(kinds []kind) []rendered {
	var out []rendered
	for _, k := range kinds {
		out = append(out, k[0]...)
	}
	return out
}

var (
	plainHost    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`)
	upstreamPort = regexp.MustCompile("\x00upstream:([1-9][0-9]{0,4})")
)

// shape is the group's Caddyfile with its hosts, its services and their ports
// left open.
func shape(group []rendered) string {
	var names []string
	for _, r := range group {
		names = append(names, upstreamName(r.set.Service), "\x00upstream")
		for _, site := range r.sites() {
			if plainHost.MatchString(site) {
				names = append(names, site, "\x00host")
			}
		}
	}
	return withoutPorts(strings.NewReplacer(names...).Replace(string(join(group))))
}

// withoutPorts leaves the ports of upstreams open.
func withoutPorts(text string) string {
	return upstreamPort.ReplaceAllStringFunc(text, func(match string) string {
		name, port, _ := strings.Cut(match, ":")
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return match
		}
		return name
	})
}

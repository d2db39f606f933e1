package controller

import (
	"context"
	"errors"
	"slices"
	"time"

	"skep/services/ingress/frame"
	"skep/services/ingress/label"
)

// turn is one update. Who is to blame for a refusal gets its last good words
// back, or is left out, and the rest is tried again.
type turn struct {
	c        *Controller
	sources  []label.Source
	replaced map[string]bool // keys of sources that get their last good words
	dropped  map[place]bool
	refusals []label.Refusal

	verdicts map[place]verdict
	plan     *label.Plan
	sites    map[label.SiteID]*label.Site
	parts    []*frame.Part
}

// place is a source's share of a site.
type place struct {
	key  string
	site label.SiteID
}

// globalOptions stands for the block that belongs to no site.
const globalOptions label.SiteID = "{global options}"

// blame says that a source spoils something.
type blame struct {
	source  *label.Source
	site    label.SiteID // empty: the labels alone, which the plan left out already
	refusal label.Refusal
}

// rounds bound a turn: one for labels, one for sites, one for Caddy, and as
// many again for what these uncover.
const rounds = 8

func (t *turn) run(ctx context.Context) (changed bool, err error) {
	t.recall()
	for range rounds {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if t.setBack(t.decide()) {
			continue
		}
		blames, loaded, err := t.c.apply(ctx, t)
		changed = changed || loaded
		if err != nil {
			return changed, err
		}
		if !t.setBack(blames) {
			return t.settle() || changed, nil
		}
	}
	return changed, errors.New("the sites do not settle")
}

// decide makes parts of the sources and returns who is to blame for what could
// not be made.
func (t *turn) decide() []blame {
	c := t.c
	rendered := make([]*label.Rendered, len(t.sources))
	for i := range t.sources {
		rendered[i] = c.render(t.words(&t.sources[i]))
		if t.dropped[place{t.sources[i].Key(), globalOptions}] {
			rendered[i] = rendered[i].WithoutOptions()
		}
	}
	t.plan = label.Assemble(rendered, c.claims, c.settings.policy, time.Now().UTC(), time.Duration(c.settings.ClaimGrace))
	var blames []blame
	for _, r := range t.plan.Refusals {
		if source := t.source(r.ID); source != nil {
			blames = append(blames, blame{source: source, refusal: r})
		}
	}
	t.parts, t.sites = nil, map[label.SiteID]*label.Site{}
	if err := frame.CheckGlobals(t.plan.Globals); err != nil {
		return append(blames, t.blameAll(t.plan.Options, globalOptions, label.RuleAdapt, err)...)
	}
	for _, site := range t.plan.Sites {
		site = t.without(site)
		if site == nil {
			continue
		}
		part, refusal := c.adapter.Part(t.plan.Globals, site)
		if refusal != nil {
			found, keep := t.culprits(site, *refusal)
			blames = append(blames, found...)
			if part = keep; part == nil {
				continue
			}
		}
		t.parts = append(t.parts, part)
		t.sites[site.ID] = site
	}
	return blames
}

// words are the source's own, or its last good ones.
func (t *turn) words(s *label.Source) label.Source {
	if t.replaced[s.Key()] {
		return t.c.good[s.Key()].of(*s)
	}
	return *s
}

func (t *turn) source(id label.SourceID) *label.Source {
	for i := range t.sources {
		if t.sources[i].ID == id {
			return &t.sources[i]
		}
	}
	return nil
}

// without is the site without the sources that spoil it.
func (t *turn) without(site *label.Site) *label.Site {
	rest := slices.DeleteFunc(slices.Clone(site.Sources), func(s *label.Source) bool { return t.dropped[place{s.Key(), site.ID}] })
	switch len(rest) {
	case len(site.Sources):
		return site
	case 0:
		return nil
	}
	return site.Only(rest)
}

// changed reports whether a source says something that was not accepted yet.
func (t *turn) changed(s *label.Source) bool {
	good, ok := t.c.good[s.Key()]
	return !ok || !good.same(s)
}

// unaccepted are the sources that say something that was not accepted yet.
func (t *turn) unaccepted(sources []*label.Source) []*label.Source {
	return slices.DeleteFunc(slices.Clone(sources), func(s *label.Source) bool { return !t.changed(s) })
}

// reversible are those of them that have something to go back to.
func (t *turn) reversible(sources []*label.Source) []*label.Source {
	return slices.DeleteFunc(t.unaccepted(sources), func(s *label.Source) bool {
		return t.replaced[s.Key()] || !t.c.good[s.Key()].usable()
	})
}

// culprits are the sources that spoil a site: of its own those that changed,
// else those whose snippets it uses. If nothing changed, the site keeps the
// part that it had.
func (t *turn) culprits(site *label.Site, refusal label.Refusal) ([]blame, *frame.Part) {
	suspects := t.unaccepted(site.Sources)
	if len(suspects) == 0 {
		if suspects = t.reversible(site.Libraries); len(suspects) > 0 {
			return blames(suspects, "", refusal), nil
		}
		if old := t.c.now.parts[site.ID]; old != nil {
			refusal.Kept = true
			t.note(refusal)
			return nil, old
		}
		return blames(site.Sources, site.ID, refusal), nil
	}
	if len(site.Sources) == 1 {
		return blames(suspects, site.ID, refusal), nil
	}
	var out []blame
	accepted := slices.DeleteFunc(slices.Clone(site.Sources), func(s *label.Source) bool { return slices.Contains(suspects, s) })
	for _, s := range suspects {
		with := append(slices.Clone(accepted), s)
		if _, own := t.c.adapter.Part(t.plan.Globals, site.Only(with)); own != nil {
			out = append(out, blames([]*label.Source{s}, site.ID, *own)...)
		} else {
			accepted = with
		}
	}
	if len(out) == 0 {
		out = blames(suspects, site.ID, refusal)
	}
	return out, nil
}

// usable reports whether there is anything to go back to.
func (w words) usable() bool { return len(w.Labels) > 0 || len(w.Caddyfile) > 0 }

func blames(sources []*label.Source, site label.SiteID, r label.Refusal) []blame {
	var out []blame
	for _, s := range sources {
		own := r
		if own.ID != s.ID {
			own.Label = ""
		}
		own.ID, own.Source, own.Stack = s.ID, s.Name, s.Stack
		out = append(out, blame{source: s, site: site, refusal: own})
	}
	return out
}

func (t *turn) blameAll(sources []*label.Source, site label.SiteID, rule label.Rule, err error) []blame {
	return blames(sources, site, label.Refusal{Site: string(site), Rule: rule, Reason: frame.Plain(err).Error()})
}

// setBack gives who is to blame its last good words, or leaves it out. It
// reports whether that changes anything.
func (t *turn) setBack(found []blame) bool {
	again := false
	for _, b := range found {
		key := b.source.Key()
		good := t.c.good[key]
		switch {
		case b.refusal.Rule == label.RuleNetwork:
		case !t.replaced[key] && good.usable() && !good.same(t.source(b.source.ID)):
			t.replaced[key], again = true, true
			b.refusal.Kept = true
			t.judge(b)
		case b.site != "" && !t.dropped[place{key, b.site}]:
			t.dropped[place{key, b.site}], again = true, true
			t.judge(b)
		case t.replaced[key]:
			continue // what it says now was noted already
		}
		t.note(b.refusal)
	}
	return again
}

func (t *turn) note(r label.Refusal) {
	same := func(o label.Refusal) bool {
		return o.ID == r.ID && o.Label == r.Label && o.Rule == r.Rule && o.Site == r.Site
	}
	if !slices.ContainsFunc(t.refusals, same) {
		t.refusals = append(t.refusals, r)
	}
}

// settle remembers what was accepted.
func (t *turn) settle() (news bool) {
	c := t.c
	news = !slices.Equal(c.claims, t.plan.Claims)
	c.claims = t.plan.Claims
	refused := map[label.SourceID]bool{}
	for _, r := range t.refusals {
		refused[r.ID] = refused[r.ID] || r.Rule != label.RuleNetwork
	}
	present := map[string]bool{}
	for i := range t.sources {
		s := &t.sources[i]
		present[s.Key()] = true
		if !refused[s.ID] && t.changed(s) {
			c.good[s.Key()] = words{Labels: s.Labels, Caddyfile: s.Caddyfile}
			news = true
		}
	}
	for key := range c.good {
		if !present[key] {
			delete(c.good, key)
		}
	}
	c.verdicts = t.verdicts
	ids := map[label.SourceID]bool{}
	for i := range t.sources {
		ids[t.sources[i].ID] = true
	}
	for id := range c.rendered {
		if !ids[id] {
			delete(c.rendered, id)
		}
	}
	c.adapter.Sweep()
	label.SortRefusals(t.refusals)
	return news
}

// render makes blocks of a source, unless it says what it said before.
func (c *Controller) render(s label.Source) *label.Rendered {
	if old := c.rendered[s.ID]; old != nil && old.Source.Same(&s) {
		return old
	}
	r := label.Render(&s, c.settings.policy)
	c.rendered[s.ID] = r
	return r
}

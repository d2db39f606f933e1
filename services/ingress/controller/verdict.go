package controller

import (
	"time"

	"skep/services/ingress/label"
)

// verdict is what Caddy said of words. It holds for a while: who changes
// something else must not pay for another search, nor be suspected.
type verdict struct {
	words    words
	refusal  label.Refusal
	replaced bool // else left out
	at       time.Time
}

// recall applies the verdicts on words that have not changed since.
func (t *turn) recall() {
	t.verdicts = map[place]verdict{}
	if len(t.c.verdicts) == 0 {
		return
	}
	byKey := map[string]*label.Source{}
	for i := range t.sources {
		byKey[t.sources[i].Key()] = &t.sources[i]
	}
	for at, v := range t.c.verdicts {
		s := byKey[at.key]
		if s == nil || !v.words.same(s) || time.Since(v.at) > time.Duration(t.c.settings.Resync) {
			continue
		}
		if v.replaced {
			t.replaced[at.key] = true
		} else {
			t.dropped[at] = true
		}
		v.refusal.ID = s.ID
		t.verdicts[at] = v
		t.note(v.refusal)
	}
}

// judge remembers what Caddy said. What depends on others' labels or on the
// policy is looked at anew every time.
func (t *turn) judge(b blame) {
	if b.refusal.Rule != label.RuleAdapt && b.refusal.Rule != label.RuleProvision {
		return
	}
	s := t.source(b.source.ID) // as it is, not as it was replaced
	t.verdicts[place{s.Key(), b.site}] = verdict{
		words:   words{Labels: s.Labels, Caddyfile: s.Caddyfile},
		refusal: b.refusal, replaced: b.refusal.Kept, at: time.Now(),
	}
}

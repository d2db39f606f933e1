package label

import (
	"cmp"
	"fmt"
	"slices"
)

// Rule is why something was refused.
type Rule string

const (
	RuleSyntax    Rule = "syntax"    // labels that make no Caddyfile
	RuleTemplate  Rule = "template"  // a template that fails, or does too much
	RuleClaim     Rule = "claim"     // a host of another stack
	RuleConflict  Rule = "conflict"  // an address or a snippet that is there already
	RuleGlobal    Rule = "global"    // global options from who is not trusted
	RuleSnippet   Rule = "snippet"   // a snippet that is not shared, or a file
	RuleEnv       Rule = "env"       // the ingress's environment
	RuleFile      Rule = "file"      // the ingress's files
	RuleListen    Rule = "listen"    // a port that is not declared
	RuleUpstream  Rule = "upstream"  // the ingress itself, or a socket
	RuleModule    Rule = "module"    // a handler or matcher that is not for applications
	RuleAdapt     Rule = "adapt"     // Caddy's adapter
	RuleProvision Rule = "provision" // Caddy, when it sets the site up
	RuleNetwork   Rule = "network"   // no network in common; a warning
)

// Refusal says what the ingress left out, and why.
type Refusal struct {
	Stack  Stack    `json:"stack"`
	Source string   `json:"source"`
	ID     SourceID `json:"-"`
	Label  string   `json:"label,omitempty"`
	Site   string   `json:"site,omitempty"`
	Rule   Rule     `json:"rule"`
	Reason string   `json:"reason"`
	// Kept says that the last good version serves meanwhile.
	Kept bool `json:"kept"`
}

func (r Refusal) String() string {
	at := r.Source
	if r.Label != "" {
		at += ": " + r.Label
	}
	return fmt.Sprintf("%s: %s (%s)", at, r.Reason, r.Rule)
}

func refuse(s *Source, label string, rule Rule, format string, args ...any) *Refusal {
	return &Refusal{Stack: s.Stack, Source: s.Name, ID: s.ID, Label: label, Rule: rule, Reason: fmt.Sprintf(format, args...)}
}

// SortRefusals puts refusals into an order that does not depend on maps.
func SortRefusals(refusals []Refusal) {
	slices.SortStableFunc(refusals, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Site, b.Site), cmp.Compare(a.Label, b.Label), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Reason, b.Reason))
	})
}

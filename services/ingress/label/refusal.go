package label

import (
	"cmp"
	"fmt"
	"slices"
)

// Rule is why something was refused.
type Rule string

const (
	RuleSyntax    Rule = "syntax"
	RuleTemplate  Rule = "template"
	RuleClaim     Rule = "claim"
	RuleReserve   Rule = "reserve"
	RuleConflict  Rule = "conflict"
	RuleGlobal    Rule = "global"
	RuleSnippet   Rule = "snippet"
	RuleEnv       Rule = "env"
	RuleFile      Rule = "file"
	RuleListen    Rule = "listen"
	RuleUpstream  Rule = "upstream"
	RuleModule    Rule = "module"
	RuleAdapt     Rule = "adapt"
	RuleProvision Rule = "provision"
	RuleNetwork   Rule = "network"
)

// Rules are all of them, for the manual.
var Rules = []struct {
	Rule Rule
	Doc  string
}{
	{RuleSyntax, "Labels that make no Caddyfile"},
	{RuleTemplate, "A template that fails, or does too much"},
	{RuleClaim, "A host of another stack"},
	{RuleReserve, "A host below a wildcard that is reserved for another stack"},
	{RuleConflict, "An address or a snippet that is there already"},
	{RuleGlobal, "Global options from who is not trusted"},
	{RuleSnippet, "A snippet that is not shared, or a file"},
	{RuleEnv, "The ingress's environment"},
	{RuleFile, "The ingress's files"},
	{RuleListen, "A port that is not declared"},
	{RuleUpstream, "The ingress itself, or a socket"},
	{RuleModule, "A handler or matcher that is not for applications"},
	{RuleAdapt, "Caddy's adapter does not accept the site"},
	{RuleProvision, "Caddy cannot set the site up, such as with a certificate file that is missing"},
	{RuleNetwork, "No network in common with the ingress; a warning"},
}

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

package check

import (
	"cmp"
	"embed"
	"slices"

	"skep/generator/problem"
	"skep/generator/spec"
)

// pages are the rules' documentation, a file a rule.
//
//go:embed rules
var pages embed.FS

// rule makes a rule whose page is rules/<id>.md.
func rule(id string, severity problem.Severity, title string) problem.Rule {
	page, _ := pages.ReadFile("rules/" + id + ".md") // a test misses it
	return problem.Rule{ID: id, Severity: severity, Title: title, Doc: string(page)}
}

// Rules lists every rule, the policies' and the loader's, by id.
func Rules() []problem.Rule {
	out := append(spec.Rules(), ruleUnusedWaiver, ruleIngressRefuses, ruleDockerRefuses)
	for _, p := range policies {
		out = append(out, p.rule)
	}
	slices.SortFunc(out, func(a, b problem.Rule) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Rule finds a rule by id.
func Rule(id string) (problem.Rule, bool) {
	rules := Rules()
	i := slices.IndexFunc(rules, func(r problem.Rule) bool { return r.ID == id })
	if i < 0 {
		return problem.Rule{}, false
	}
	return rules[i], true
}

// Waivable lists the rules that x-waive may name, by id.
func Waivable() []string {
	var out []string
	for _, p := range policies {
		if !p.strict {
			out = append(out, p.rule.ID)
		}
	}
	slices.Sort(out)
	return out
}

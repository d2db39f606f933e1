package problem

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

// SARIF 2.1.0, as far as it is needed
// (https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html).
const (
	sarifSchema  = "https://json.schemastore.org/sarif-2.1.0.json"
	sarifVersion = "2.1.0"
)

type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool     `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		Version        string      `json:"version"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID               string        `json:"id"`
		ShortDescription sarifText     `json:"shortDescription"`
		FullDescription  *sarifText    `json:"fullDescription,omitempty"`
		Help             *sarifText    `json:"help,omitempty"`
		Default          sarifSeverity `json:"defaultConfiguration"`
	}
	sarifSeverity struct {
		Level string `json:"level"`
	}
	sarifText struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown,omitempty"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		RuleIndex int             `json:"ruleIndex"`
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifLocation struct {
		Physical sarifPhysical `json:"physicalLocation"`
		Logical  []sarifName   `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
	}
	sarifName struct {
		FullyQualifiedName string `json:"fullyQualifiedName"`
	}
)

// SARIF writes problems for code scanning. rules describes every rule that may
// occur; path turns a file of the project into a path relative to the root of
// the checkout.
func (l List) SARIF(rules []Rule, version string, path func(file string) string) ([]byte, error) {
	rules = slices.Clone(rules)
	slices.SortStableFunc(rules, func(a, b Rule) int { return strings.Compare(a.ID, b.ID) })
	index := map[string]int{}
	described := make([]sarifRule, 0, len(rules))
	describe := func(r Rule) {
		if _, ok := index[r.ID]; ok {
			return
		}
		index[r.ID] = len(described)
		s := sarifRule{ID: r.ID, ShortDescription: sarifText{Text: r.Title}, Default: sarifSeverity{string(r.Severity)}}
		if r.Doc != "" {
			first, _, _ := strings.Cut(r.Doc, "\n\n")
			s.FullDescription = &sarifText{Text: first}
			s.Help = &sarifText{Text: r.Doc, Markdown: r.Doc}
		}
		described = append(described, s)
	}
	for _, r := range rules {
		describe(r)
	}
	results := make([]sarifResult, 0, len(l))
	for _, p := range l {
		describe(Rule{ID: p.Rule, Severity: p.Severity, Title: p.Rule}) // one that rules leaves out
		results = append(results, sarifResultOf(p, index[p.Rule], path))
	}
	log := sarifLog{Schema: sarifSchema, Version: sarifVersion, Runs: []sarifRun{{
		Tool:       sarifTool{sarifDriver{Name: "skep", Version: version, InformationURI: "https://github.com/skep-sh/skep", Rules: described}},
		ColumnKind: "unicodeCodePoints",
		Results:    results,
	}}}
	out, err := json.MarshalIndent(log, "", "  ")
	return append(out, '\n'), err
}

func sarifResultOf(p Problem, rule int, path func(string) string) sarifResult {
	message := p.Message
	if p.Remedy != "" {
		message += "\n" + p.Remedy
	}
	location := sarifLocation{Physical: sarifPhysical{Artifact: sarifArtifact{URI: (&url.URL{Path: path(p.File)}).String()}}}
	if p.Line > 0 {
		location.Physical.Region = &sarifRegion{StartLine: p.Line, StartColumn: p.Column}
	}
	if p.Subject != "" {
		location.Logical = []sarifName{{p.Subject}}
	}
	return sarifResult{RuleID: p.Rule, RuleIndex: rule, Level: string(p.Severity), Message: sarifText{Text: message}, Locations: []sarifLocation{location}}
}

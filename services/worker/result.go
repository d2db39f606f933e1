package worker

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"

	"skep/services/controlplane"
)

// Result is what a run leaves in Run.Output.
type Result struct {
	Summary  string    `json:"summary"`
	Changes  bool      `json:"changes,omitempty"` // the plan has some
	Problems []Problem `json:"problems,omitempty"`
	Plan     string    `json:"plan,omitempty"` // Markdown
	Deployed bool      `json:"deployed,omitempty"`
	// Commit is the one that was deployed.
	Commit  controlplane.Commit `json:"commit,omitempty"`
	Stopped bool                `json:"stopped,omitempty"` // somebody ended it while it changed the Swarm
}

// The store takes a mebibyte of JSON, where a quote has two bytes.
const (
	maxPlan     = 256 << 10
	maxProblems = 128 << 10
	cutPlan     = "\n\n(cut; see the run's log)"
)

// encode is the result as far as the store takes it. What is left out, the log
// has.
func (r Result) encode() ([]byte, error) {
	if len(r.Plan) > maxPlan {
		r.Plan = strings.ToValidUTF8(r.Plan[:maxPlan-len(cutPlan)], "") + cutPlan
	}
	size, problems := 0, r.Problems
	r.Problems = nil
	for _, p := range problems {
		if size += len(p.File) + len(p.Rule) + len(p.Severity) + len(p.Message) + len(p.Remedy) + problemBytes; size > maxProblems {
			break
		}
		r.Problems = append(r.Problems, p)
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false) // it is data, and six bytes for one
	err := encoder.Encode(r)
	return bytes.TrimSpace(out.Bytes()), err
}

// problemBytes is what the names and numbers of a Problem take.
const problemBytes = 120

func (p Problem) printable() Problem {
	for _, text := range []*string{&p.File, &p.Rule, &p.Severity, &p.Message, &p.Remedy} {
		*text = printable(*text)
	}
	return p
}

// printable has no control character besides the ends of lines and tabs. JSON in
// PostgreSQL takes no zero byte, which a job writes as easily as any other.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(text, string(unicode.ReplacementChar)))
}

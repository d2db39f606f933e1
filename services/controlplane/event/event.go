// Package event reads what providers deliver: the body of a webhook becomes
// controlplane.Changes, in one form for all providers. It does no I/O, and it
// expects a body that was verified and still trusts no field of it: whoever may
// push a branch or write a comment chooses most of them.
package event

import (
	"fmt"
	"strings"
	"unicode"

	"skep/services/controlplane"
)

// Parse is what a delivery says: one change, none if it is nothing that Skep
// acts on, or several where one push moved several branches. An error says that
// the body is not what the provider documents.
func Parse(p controlplane.Provider, event string, body []byte) ([]controlplane.Change, error) {
	var parse func(event string, body []byte) ([]controlplane.Change, error)
	switch p {
	case controlplane.GitHub:
		parse = parseGitHub
	case controlplane.GitLab:
		parse = parseGitLab
	case controlplane.AzureDevOps:
		parse = parseAzureDevOps
	case controlplane.Salesforce, controlplane.Generic: // they speak of no repository
		return nil, nil
	default:
		return nil, fmt.Errorf("no events of provider %q are known", p)
	}
	changes, err := parse(event, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", p, event, err)
	}
	return changes, nil
}

const (
	maxComment = 64 << 10 // GitHub's own limit; the others allow more
	maxLabels  = 100
	maxText    = 256
)

const branches = "refs/heads/"

// ref is the branch that a ref names; ok is false for a tag and the like.
func ref(s string) (b controlplane.Branch, ok bool, err error) {
	name, ok := strings.CutPrefix(s, branches)
	if !ok {
		return "", false, nil
	}
	b, err = controlplane.ParseBranch(name)
	return b, err == nil, err
}

// text is a login or a label: one line without control characters.
func text(what, s string) (string, error) {
	if len(s) > maxText || strings.ContainsFunc(s, unicode.IsControl) {
		return "", fmt.Errorf("%s of %d bytes is no line of up to %d", what, len(s), maxText)
	}
	return s, nil
}

func labels(in []string) ([]string, error) {
	if len(in) > maxLabels {
		return nil, fmt.Errorf("%d labels: %d are taken", len(in), maxLabels)
	}
	for _, l := range in {
		if _, err := text("label", l); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// head is the branch of a pull request's head. In a fork it is a stranger's
// word and serves no purpose: one that is no branch is left out.
func head(s string, fork bool) (controlplane.Branch, error) {
	b, err := controlplane.ParseBranch(s)
	if err != nil && !fork {
		return "", err
	}
	return b, nil
}

// comment cuts what is too long: a command stands at the top.
func comment(s string) string {
	if len(s) > maxComment {
		s = strings.ToValidUTF8(s[:maxComment], "")
	}
	return s
}

func number(n int) (int, error) {
	if n < 1 {
		return 0, fmt.Errorf("%d is no number of a pull request", n)
	}
	return n, nil
}

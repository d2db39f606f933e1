package label

import (
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	fragments "github.com/lucaslorentz/caddy-docker-proxy/v2/caddyfile"
)

// Caddy's parser reads a file as soon as it meets an import, so what a service
// that is not trusted imports must be known from its text. The parser fills in
// variables before it takes the text apart, and the arguments of a snippet
// word by word.
var (
	filledIn   = regexp.MustCompile(`\{(args|\$)[^}]*\}?`)
	nestedFill = regexp.MustCompile(`\{[^}]*\{\$`)
)

const importWord = "import"

// readImports lists the snippets and files that the block imports.
func (b *Block) readImports() *Refusal {
	if !b.source.Trusted {
		if line := unfinished(b.fragment); line != nil {
			return refuse(b.source, b.labelOf(line[len(line)-1]), RuleSyntax, "%q does not end with its line", strings.Join(line, " "))
		}
	}
	tokens, err := caddyfile.Tokenize([]byte(b.text), "labels")
	if err != nil {
		return refuse(b.source, b.label, RuleSyntax, "%v", err)
	}
	for i, t := range tokens {
		first := i == 0 || onNewLine(tokens[i-1], t)
		if !b.source.Trusted && mayBecomeImport(t.Text, first) {
			return refuse(b.source, b.labelOf(t.Text), RuleSnippet, "what is filled into %s would choose a directive; only a trusted service may leave that open", t.Text)
		}
		if t.Text != importWord || b.source.Trusted && !first {
			continue
		}
		named := i+1 < len(tokens) && !onNewLine(t, tokens[i+1])
		switch {
		case !b.source.Trusted && (i == 0 || !first):
			return refuse(b.source, b.labelOf(t.Text), RuleSnippet, "the word import is not at the start of a directive")
		case !named:
			return refuse(b.source, b.label, RuleSyntax, "an import names nothing")
		case !b.source.Trusted && strings.Contains(tokens[i+1].Text, "{"):
			return refuse(b.source, b.labelOf(tokens[i+1].Text), RuleSnippet, "%s is not the name of a snippet", tokens[i+1].Text)
		}
		b.imports = append(b.imports, tokens[i+1].Text)
	}
	return nil
}

func onNewLine(before, t caddyfile.Token) bool { return before.Line+before.NumLineBreaks() < t.Line }

// mayBecomeImport reports whether a word can be a directive's name that is not
// written out. An argument that is a word of its own is looked at where it is
// given.
func mayBecomeImport(word string, first bool) bool {
	pieces := filledIn.Split(word, -1)
	switch {
	case nestedFill.MatchString(word):
		return true
	case len(pieces) == 1:
		return false
	case first:
		return true
	case len(pieces) == 2 && pieces[0] == "" && pieces[1] == "":
		return false
	}
	rest, ok := strings.CutPrefix(importWord, pieces[0])
	for _, piece := range pieces[1 : len(pieces)-1] {
		_, after, found := strings.Cut(rest, piece)
		rest, ok = after, ok && found
	}
	return ok && strings.HasSuffix(rest, pieces[len(pieces)-1])
}

// unfinished finds a line that would go on in the one after it: with an open
// quote, a heredoc or a backslash. When blocks merge, that may be any line.
func unfinished(b *fragments.Block) (words []string) {
	line := string((&fragments.Block{Container: fragments.CreateContainer(), Keys: b.Keys}).Marshal())
	if strings.ContainsAny(line, "`\"\\<") {
		const next = "next"
		tokens, err := caddyfile.Tokenize([]byte(line+next), "line")
		last := len(tokens) - 1
		if err != nil || last < 0 || tokens[last].Text != next || last > 0 && !onNewLine(tokens[last-1], tokens[last]) {
			return b.Keys
		}
	}
	for _, child := range b.Children {
		if words := unfinished(child); words != nil {
			return words
		}
	}
	return nil
}

package event

import (
	"slices"
	"strings"

	"skep/services/controlplane"
)

const (
	slash     = "/skep"
	maxStacks = 50
)

// ParseCommand finds the first command of a comment: a line that starts with
// /skep, outside of quotes and fenced code. What is wrong with it is in the
// command's Problem.
func ParseCommand(comment string) (controlplane.Command, bool) {
	fence := ""
	for line := range strings.Lines(comment) {
		line = strings.TrimRight(line, "\r\n\t ")
		if mark := fenceMark(line); mark != "" {
			switch {
			case fence == "":
				fence = mark
				continue
			case mark[0] == fence[0] && len(mark) >= len(fence) && closes(line):
				fence = ""
				continue
			}
		}
		if fence != "" {
			continue
		}
		if rest, ok := strings.CutPrefix(line, slash); ok && (rest == "" || rest[0] == ' ' || rest[0] == '\t') {
			return command(rest), true
		}
	}
	return controlplane.Command{}, false
}

// fenceMark is the run of backticks or tildes that a line starts with, three at
// least: CommonMark 0.31, 4.5. A fence of backticks has no more of them behind.
func fenceMark(line string) string {
	trimmed := strings.TrimLeft(line, " ")
	if len(line)-len(trimmed) > 3 || trimmed == "" {
		return ""
	}
	rest := strings.TrimLeft(trimmed, trimmed[:1])
	mark := trimmed[:len(trimmed)-len(rest)]
	if len(mark) < 3 || mark[0] != '`' && mark[0] != '~' || mark[0] == '`' && strings.Contains(rest, "`") {
		return ""
	}
	return mark
}

// closes says that nothing stands behind the marks: no language, no text.
func closes(line string) bool {
	return strings.Trim(line, " `") == "" || strings.Trim(line, " ~") == ""
}

func command(rest string) controlplane.Command {
	help := controlplane.Command{Verb: controlplane.VerbHelp}
	words := strings.FieldsFunc(rest, func(r rune) bool { return r == ' ' || r == '\t' })
	if len(words) == 0 {
		return help
	}
	verb := controlplane.Verb(words[0])
	if !slices.Contains(controlplane.Verbs, verb) {
		help.Problem = "there is no such command"
		return help
	}
	if len(words)-1 > maxStacks {
		help.Problem = "too many stacks for one command"
		return help
	}
	out := controlplane.Command{Verb: verb}
	for _, w := range words[1:] {
		name, err := controlplane.ParseName(w)
		if err != nil {
			help.Problem = "the name of a stack has up to 63 of a-z, 0-9 and -"
			return help
		}
		if !slices.Contains(out.Stacks, name) {
			out.Stacks = append(out.Stacks, name)
		}
	}
	return out
}

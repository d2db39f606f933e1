package gitlab

import (
	"regexp"
	"strings"
	"testing"
)

// FuzzInert: no line of a text is a quick action, and the text is the same but
// for what does not show.
func FuzzInert(f *testing.F) {
	for _, seed := range []string{"/merge", "a\n /b", "a\r/b\r\n\t/c", "//", "\u200b/x", "a / b", "\u00a0/x", "\v/x\f/y"} {
		f.Add(seed)
	}
	// What GitLab takes for the begin of a line, and for blank.
	action := regexp.MustCompile(`(?m)(^|\r)([^\S\n]|\v|\pZ)*/`)
	f.Fuzz(func(t *testing.T, in string) {
		got := inert(in)
		if action.MatchString(got) {
			t.Errorf("%q is %q, and does something", in, got)
		}
		plain := strings.NewReplacer("\u200b", "")
		if plain.Replace(got) != plain.Replace(lines.Replace(in)) {
			t.Errorf("%q says something else: %q", in, got)
		}
	})
}

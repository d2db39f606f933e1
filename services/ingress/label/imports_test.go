package label

import (
	"slices"
	"testing"
)

// TestImportsOfStrangers has snippets and sites that write "import" in other
// ways than as a directive of that name.
func TestImportsOfStrangers(t *testing.T) {
	const site = "caddy: a.example.com\ncaddy.import: a ort\n"
	for name, c := range map[string]struct{ labels, policy, want string }{
		"completed by an argument":    {site + "caddy_1: (a)\ncaddy_1.header.imp{args[0]}: /etc/passwd", "", "a caddy_1.header.imp{args[0]} snippet"},
		"by the older form":           {site + "caddy_1: (a)\ncaddy_1.header.imp{args\\.0}: /etc/passwd", "", "a caddy_1 snippet"},
		"by two":                      {site + "caddy_1: (a)\ncaddy_1.header: X {args[0]}{args[1]}", "", "a caddy_1.header snippet"},
		"the whole of it":             {site + "caddy_1: (a)\ncaddy_1.{args[0]}: /etc/passwd", "", "a caddy_1.{args[0]} snippet"},
		"an argument":                 {"caddy: a.example.com\ncaddy.import: a import s\ncaddy_1: (a)\ncaddy_1.header: {args[0]} {args[1]}\ncaddy_2: (s)\ncaddy_2.header: A 1", "", "a caddy.import snippet"},
		"a snippet's name":            {site + "caddy_1: ({args[0]})\ncaddy_1.header: A 1\ncaddy_2: (a)\ncaddy_2.import: {args[0]}", "", "a caddy_2.import snippet"},
		"a block for a name":          {site + "caddy_1: ({block})\ncaddy_1.header: A 1\ncaddy_2: (a)\ncaddy_2.import: {block}", "", "a caddy_2.import snippet"},
		"an address":                  {"caddy: import a\ncaddy.respond: hi\ncaddy_1: (a)\ncaddy_1.header: A 1", "", "a caddy snippet"},
		"a name on the next line":     {"caddy: a.example.com\ncaddy.handle.import:\ncaddy.handle.z: 1\ncaddy_1: (z)\ncaddy_1.header: A 1", "", "a caddy syntax"},
		"completed by a variable":     {"caddy: a.example.com\ncaddy.handle.imp{$SKEP_UNSET}ort: /etc/passwd", "env:SKEP_UNSET", "a caddy.handle.imp{$SKEP_UNSET}ort snippet"},
		"by its default":              {"caddy: a.example.com\ncaddy.handle.imp{$SKEP_UNSET:ort}: /etc/passwd", "env:SKEP_UNSET", "a caddy env"},
		"a variable in an argument":   {site + "caddy_1: (a)\ncaddy_1.header: X imp{arg{$SKEP_UNSET}s[0]}", "env:SKEP_UNSET", "a caddy_1.header snippet"},
		"a variable that is not shut": {"caddy: a.example.com\ncaddy.respond: {$SKEP_UNSET:a", "env:SKEP_UNSET", "a caddy.respond env"},
		"behind a heredoc's end":      {"caddy: a.example.com\ncaddy.handle.0_a: <<X\ncaddy.handle.1_b: import /etc/passwd\ncaddy.handle.2_c: X", "", "a caddy.handle.0_a syntax"},
		"behind an open quote":        {"caddy: a.example.com\ncaddy.handle.0_a: \"x `y\"\ncaddy.handle.1_`b: import /etc/passwd", "", "a caddy.handle.1_`b syntax"},
		"behind a backslash":          {"caddy: a.example.com\ncaddy.handle.0_a\\: x\ncaddy.handle.1_b\\:", "", "a caddy syntax"},

		"arguments elsewhere":   {site + "caddy_1: (a)\ncaddy_1.header: X-{args[0]} {args[0]}\ncaddy_1.respond: /x/{args[0]}/* {args[:]}", "", ""},
		"a block of directives": {"caddy: a.example.com\ncaddy.import: a\ncaddy.import.header: A 1\ncaddy_1: (a)\ncaddy_1.handle.{block}:", "", ""},
		"quotes":                {"caddy: a.example.com\ncaddy.respond: \"it's \\\"<b>\\\"\" 200\ncaddy.header: A `{\"a\": \"b\\c\"}`", "", ""},
		"a variable":            {"caddy: a.example.com\ncaddy.respond: {$SKEP_UNSET}", "env:SKEP_UNSET", ""},
	} {
		got := refusals(assemble(t, c.policy, nil, epoch, source("a", "a", 0, c.labels)))
		if c.want == "" && len(got) > 0 || c.want != "" && !slices.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	mine := trusted(source("a", "a", 0, site+"caddy_1: (a)\ncaddy_1.header.imp{args[0]}: /srv/page"))
	equal(t, "whoever is trusted may", refusals(assemble(t, "", nil, epoch, mine)), nil)
}

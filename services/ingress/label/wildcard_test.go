package label

import (
	"testing"
	"time"
)

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		wild, host Host
		want       bool
	}{
		{"*.example.com", "a.example.com", true},
		{"*.example.com", "example.com", false},
		{"*.example.com", "a.b.example.com", false},
		{"*.example.com", "*.example.com", false},
		{"*.*.example.com", "*.a.example.com", true},
		{"a.example.com", "b.example.com", false},
		{"*.example.com", "a.example.org", false},
		{"", "a.example.com", true},
		{"", "", false},
		{"*.example.com", "", false},
	} {
		if got := c.wild.covers(c.host); got != c.want {
			t.Errorf("%q covers %q: got %v", c.wild, c.host, got)
		}
	}
}

// A host is its own stack's, whoever has a wildcard above it, and whoever came
// first.
func TestHostBelowAnotherStacksWildcard(t *testing.T) {
	wild := source("w_all", "w", 1, "caddy: *.example.com\ncaddy.respond: all")
	app := source("a_web", "a", 2, "caddy: a.example.com\ncaddy.respond: a")
	for _, order := range [][]Source{{wild, app}, {app, wild}} {
		equal(t, "both", refusals(assemble(t, "", nil, epoch, order...)), nil)
	}
	both := assemble(t, "", nil, epoch, wild, app)
	equal(t, "held while it is there", both.Held, nil)

	gone := assemble(t, "", both.Claims, epoch.Add(time.Minute), wild)
	equal(t, "held once it is gone", gone.Held, []Host{"a.example.com"})
	equal(t, "held with every label trusted", assemble(t, "everything", both.Claims, epoch.Add(time.Minute), wild).Held, nil)
	equal(t, "held once it is back", assemble(t, "", gone.Claims, epoch.Add(2*time.Minute), wild, app).Held, nil)
	equal(t, "held after the grace period", assemble(t, "", gone.Claims, epoch.Add(time.Hour), wild).Held, nil)

	own := source("a_all", "a", 3, "caddy: *.example.com\ncaddy.respond: mine")
	two := assemble(t, "", nil, epoch, own, app)
	equal(t, "held from its own stack's wildcard", assemble(t, "", two.Claims, epoch.Add(time.Minute), own).Held, nil)
	every := source("w_every", "w", 1, "caddy: http://\ncaddy.respond: all")
	narrow := assemble(t, "", nil, epoch, own, app, every)
	equal(t, "held where its own stack's wildcard is the narrower", assemble(t, "", narrow.Claims, epoch.Add(time.Minute), own, every).Held, nil)
	equal(t, "held from a site for every host", assemble(t, "", narrow.Claims, epoch.Add(time.Minute), every).Held, []Host{"*.example.com", "a.example.com"})
}

func TestReservedWildcard(t *testing.T) {
	const policy = "reserve:*.tenants.example.com"
	wild := source("t_web", "t", 2, "caddy: *.tenants.example.com\ncaddy.respond: tenants")
	early := source("a_web", "a", 1, "caddy: one.tenants.example.com\ncaddy.respond: a")
	beside := source("b_web", "b", 3, "caddy: a.example.com\ncaddy.respond: b")

	before := assemble(t, "", nil, epoch, early)
	p := assemble(t, policy, before.Claims, epoch, early, wild, beside)
	equal(t, "a host below it, had before", refusals(p), []string{"a_web caddy reserve"})
	mine := source("t_one", "t", 4, "caddy: one.tenants.example.com\ncaddy.respond: mine")
	equal(t, "its own stack's host", refusals(assemble(t, policy, p.Claims, epoch, wild, mine)), nil)
	equal(t, "without its stack nothing is reserved", refusals(assemble(t, policy, nil, epoch, early)), nil)
	equal(t, "an entry that names another wildcard", refusals(assemble(t, "reserve:*.example.com", nil, epoch, early, wild)), nil)
}

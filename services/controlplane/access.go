package controlplane

import (
	"fmt"
	"slices"
	"time"
)

// Scope is what a token may do.
type Scope string

const (
	ScopeRead         Scope = "read"         // look at runs, deliveries, projects
	ScopeDeploy       Scope = "deploy"       // start and cancel runs, redeliver
	ScopeTasks        Scope = "tasks"        // create tasks and schedules
	ScopeIntegrations Scope = "integrations" // credentials, sources, projects
	ScopeAdmin        Scope = "admin"        // all of it, and tokens
)

// Scopes are all of them.
var Scopes = []Scope{ScopeRead, ScopeDeploy, ScopeTasks, ScopeIntegrations, ScopeAdmin}

func ParseScope(s string) (Scope, error) {
	if !slices.Contains(Scopes, Scope(s)) {
		return "", fmt.Errorf("scope %q; there are %v", s, Scopes)
	}
	return Scope(s), nil
}

// Token lets a program in. What it shows is not kept: only its SHA-256 is.
type Token struct {
	ID      int64
	Name    Name
	Scopes  []Scope
	Created time.Time
	Expires time.Time // zero: never
	Revoked time.Time
	Used    time.Time
}

// May says whether the token has a scope: admin has all, and all may read.
func (t Token) May(s Scope) bool {
	return slices.Contains(t.Scopes, s) || slices.Contains(t.Scopes, ScopeAdmin) || s == ScopeRead && len(t.Scopes) > 0
}

// Audit is a row about one call that changed something.
type Audit struct {
	ID      int64
	At      time.Time
	Actor   string // token/<name>, or user/<login>@<provider>
	Action  string // integration.put
	Target  string // github/main
	Outcome string // done, denied, failed
	Request string // id of the request, as the log has it
}

// Integration is the credentials for one account at a provider. The values go
// in and do not come out again.
type Integration struct {
	Provider Provider
	Name     Name
	// Settings are what is no secret: base URL, application id, organization.
	Settings map[string]string
	// Fields are the names of the credentials that are kept, sorted.
	Fields  []string
	Version int // goes up with each rotation
	KeyID   string
	Created time.Time
	Updated time.Time
	Tested  time.Time // zero: never with success
}

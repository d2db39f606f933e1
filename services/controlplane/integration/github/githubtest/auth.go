package githubtest

import (
	"crypto/rand"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"skep/services/controlplane"
)

// principal is who makes a request: the App itself by its JWT, its installation
// by a token, or a user.
type principal struct {
	app   bool
	token *token // of an installation
	login string // that what it writes is signed with
}

// token is an installation's.
type token struct {
	expires      time.Time
	repositories []controlplane.Repository // nil: all
	permissions  map[string]string
}

// maxJWT is how far in the future a JWT may end.
const maxJWT = 10 * time.Minute

func (s *Server) authenticate(r *http.Request) (principal, *answer) {
	scheme, credentials, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	refuse := func(message string) (principal, *answer) {
		a := problem(http.StatusUnauthorized, "%s", message)
		return principal{}, &a
	}
	switch {
	case credentials == "":
		return refuse("Requires authentication")
	case s.revoked || !strings.EqualFold(scheme, "bearer") && !strings.EqualFold(scheme, "token"):
		return refuse("Bad credentials")
	case strings.Count(credentials, ".") == 2:
		if message := s.checkJWT(credentials); message != "" {
			return refuse(message)
		}
		return principal{app: true}, nil
	}
	if u := s.options.User; u != nil && credentials == u.Token {
		return principal{login: u.Login}, nil
	}
	if t := s.tokens[credentials]; t != nil && s.now().Before(t.expires) {
		return principal{token: t, login: s.options.App.Slug + "[bot]"}, nil
	}
	return refuse("Bad credentials")
}

// What GitHub says of a JWT that is not good.
const (
	undecodable = "A JSON web token could not be decoded"
	badIssued   = "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
	badExpiry   = "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires"
	farExpiry   = "'Expiration time' claim ('exp') is too far in the future"
	noApp       = "Integration not found"
)

// checkJWT is what GitHub asks of an App's assertion: RS256 by the App's key, no
// other algorithm, issued in the past, and at an end within ten minutes. Empty
// is fine.
func (s *Server) checkJWT(assertion string) string {
	app := s.options.App
	if app == nil {
		return undecodable
	}
	claims := jwt.RegisteredClaims{}
	_, err := jwt.NewParser(
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithTimeFunc(s.now), jwt.WithIssuedAt(), jwt.WithExpirationRequired(),
	).ParseWithClaims(assertion, &claims, func(*jwt.Token) (any, error) { return app.Key, nil })
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return badExpiry
	case errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return badIssued
	case err != nil:
		return undecodable
	case claims.IssuedAt == nil:
		return badIssued
	case claims.ExpiresAt.After(s.now().Add(maxJWT)):
		return farExpiry
	case claims.Issuer != strconv.FormatInt(app.ID, 10):
		return noApp
	}
	return ""
}

// authorize finds the repository of a call and says whether it may be touched.
func (s *Server) authorize(c *call, needs []need) (answer, bool) {
	if needs == nil {
		return answer{}, false
	}
	if c.who.app {
		return problem(http.StatusUnauthorized, undecodable), true
	}
	c.repo = s.repositories[c.repository()]
	t := c.who.token
	switch {
	case c.repo == nil || c.repo.hidden:
		return missing(), true
	case t == nil:
		return answer{}, false
	case t.repositories != nil && !slices.Contains(t.repositories, c.repo.name):
		return missing(), true
	case !slices.ContainsFunc(needs, func(n need) bool { return atLeast(t.permissions[n.name], n.level) }):
		return problem(http.StatusForbidden, "Resource not accessible by integration"), true
	}
	return answer{}, false
}

func atLeast(has, wants string) bool { return has == wants || has == "write" && wants == "read" }

func (s *Server) getApp(c *call) answer {
	app := s.options.App
	if !c.who.app {
		return problem(http.StatusUnauthorized, undecodable)
	}
	return ok(object{
		"id": app.ID, "slug": app.Slug, "node_id": nodeID("A", app.ID), "name": app.Slug, "owner": s.userObject("skep-hq"),
		"description": "", "external_url": s.page, "html_url": s.page + "apps/" + app.Slug, "created_at": stamp(s.now()), "updated_at": stamp(s.now()),
		"permissions": app.Permissions, "events": []string{"push", "pull_request", "issue_comment", "check_run"},
	})
}

func (s *Server) getInstallation(c *call) answer {
	app := s.options.App
	if !c.who.app || c.number("id") != app.Installation {
		return missing()
	}
	return ok(object{"id": app.Installation, "account": s.userObject("skep-hq"), "app_id": app.ID, "app_slug": app.Slug, "permissions": app.Permissions})
}

func (s *Server) createToken(c *call) answer {
	app := s.options.App
	if !c.who.app {
		return problem(http.StatusUnauthorized, undecodable)
	}
	if c.number("id") != app.Installation {
		return missing()
	}
	var in struct {
		Repositories []string          `json:"repositories"`
		Permissions  map[string]string `json:"permissions"`
	}
	if a, fine := c.decode(&in); !fine {
		return a
	}
	t := &token{expires: s.now().Add(s.options.TokenLifetime), permissions: map[string]string{"metadata": "read"}}
	maps.Copy(t.permissions, app.Permissions)
	if in.Permissions != nil {
		for name, level := range in.Permissions {
			if !atLeast(t.permissions[name], level) {
				return problem(http.StatusUnprocessableEntity, "The permissions requested are not granted to this installation.")
			}
		}
		t.permissions = maps.Clone(in.Permissions)
		t.permissions["metadata"] = "read"
	}
	for _, name := range in.Repositories {
		found := false
		for full, r := range s.repositories {
			if _, short, _ := strings.Cut(string(full), "/"); short == strings.ToLower(name) && !r.hidden && r.forkOf == "" {
				t.repositories, found = append(t.repositories, full), true
			}
		}
		if !found {
			return problem(http.StatusUnprocessableEntity, "There is at least one repository that does not exist or is not accessible to the parent installation.")
		}
	}
	value := "ghs_" + rand.Text() + rand.Text()[:10]
	s.tokens[value] = t
	return created(object{"token": value, "expires_at": stamp(t.expires), "permissions": t.permissions, "repository_selection": "selected"})
}

func (s *Server) getUser(c *call) answer {
	if c.who.app || c.who.token != nil {
		return problem(http.StatusForbidden, "Resource not accessible by integration")
	}
	return ok(s.userObject(c.who.login))
}

func (s *Server) getUserByLogin(c *call) answer {
	if s.users[c.PathValue("login")] == 0 {
		return missing()
	}
	return ok(s.userObject(c.PathValue("login")))
}

// Granted is an installation token that was handed out.
type Granted struct {
	Value        string
	Repositories []controlplane.Repository
	Permissions  map[string]string
}

// Tokens are the installation tokens that were handed out, in no order.
func (s *Server) Tokens() []Granted {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Granted
	for value, t := range s.tokens {
		all = append(all, Granted{Value: value, Repositories: slices.Clone(t.repositories), Permissions: maps.Clone(t.permissions)})
	}
	return all
}

// Expire ends all installation tokens before their time.
func (s *Server) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tokens {
		t.expires = time.Time{}
	}
}

// Revoke ends all credentials.
func (s *Server) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = true
}

// Package salesforcetest is a fake of the parts of Salesforce that the client
// calls: the token endpoint with the JWT bearer and refresh token flows,
// userinfo, and a query of the Organization.
// https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_jwt_flow.htm
package salesforcetest

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Org is the organization that a server has.
type Org struct {
	ID      string // 18 characters
	Name    string
	Sandbox bool
	Edition string // OrganizationType: Enterprise Edition, ...
}

// App is a connected app.
type App struct {
	ClientID string
	Secret   string         // empty: none is asked for
	Key      *rsa.PublicKey // of its certificate; nil: no JWT flow
	Approved []string       // users that are pre-authorized
	Rotate   bool           // refresh token rotation
}

// Server is one organization behind one host, which is the login host too, as
// with My Domain.
type Server struct {
	URL string
	Org Org

	http *http.Server
	done chan struct{}

	mu       sync.Mutex
	apps     map[string]App
	users    map[string]bool // by name, active or not
	refresh  map[string]grant
	sessions map[string]session
	now      func() time.Time
	until    time.Time // of a limit
	failing  int
	instance string
	tokens   int
	refusal  string // of the token endpoint, with its status
	status   int
	echo     bool
	lies     map[string]bool
}

type grant struct{ client, user string }

type session struct {
	user    string
	expires time.Time
}

// lifetime of a session: the default of the organization's session settings.
const lifetime = 2 * time.Hour

// Start runs a server on the loopback address, by a clock.
func Start(org Org, now func() time.Time) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{
		URL: "http://" + listener.Addr().String(), Org: org, done: make(chan struct{}),
		apps: map[string]App{}, users: map[string]bool{}, refresh: map[string]grant{}, sessions: map[string]session{},
		lies: map[string]bool{}, now: now,
	}
	s.instance = s.URL
	mux := http.NewServeMux()
	mux.HandleFunc("POST /services/oauth2/token", s.token)
	mux.HandleFunc("GET /services/oauth2/userinfo", s.userinfo)
	mux.HandleFunc("GET /services/data/{version}/query", s.query)
	s.http = &http.Server{Handler: s.limit(mux), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(listener) // Close ends it
	}()
	return s, nil
}

// Close stops the server.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.done
	return err
}

// Audience is what an assertion must be for, besides the server's own URL.
func (s *Server) Audience() string {
	if s.Org.Sandbox {
		return "https://test.salesforce.com"
	}
	return "https://login.salesforce.com"
}

// AddApp registers or replaces a connected app.
func (s *Server) AddApp(a App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps[a.ClientID] = a
}

// SetUser adds, activates or deactivates a user.
func (s *Server) SetUser(name string, active bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[name] = active
}

// Grant is a new refresh token of a user for an app.
func (s *Server) Grant(clientID, user string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grant(grant{clientID, user})
}

func (s *Server) grant(g grant) string {
	token := "5Aep861" + text(40)
	s.refresh[token] = g
	return token
}

// RevokeAll makes every refresh token and session worthless.
func (s *Server) RevokeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.refresh)
	clear(s.sessions)
}

// SetInstance changes the instance URL that tokens come with.
func (s *Server) SetInstance(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instance = url
}

// LimitRequests turns every request to the API down until so much time has
// passed: the organization has used its share of the day up.
func (s *Server) LimitRequests(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = s.now().Add(after)
}

// RefuseTokens makes the token endpoint answer this; 0 ends it.
func (s *Server) RefuseTokens(status int, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.refusal, s.echo = status, body, false
}

// EchoTokens makes the token endpoint refuse, and repeat what it was sent.
func (s *Server) EchoTokens(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.echo = status, true
}

// LieInUserinfo names another organization there.
func (s *Server) LieInUserinfo() { s.lie("userinfo") }

// LieInQuery names another organization there.
func (s *Server) LieInQuery() { s.lie("query") }

func (s *Server) lie(where string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lies[where] = true
}

// id is the organization's, as it is told somewhere.
func (s *Server) id(where string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lies[where] {
		return "00D000000000062EAA"
	}
	return s.Org.ID
}

// Outage answers the next requests with 503.
func (s *Server) Outage(requests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = requests
}

// Tokens counts the access tokens that were issued.
func (s *Server) Tokens() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens
}

func (s *Server) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		failing, limited := s.failing > 0, s.now().Before(s.until)
		if failing {
			s.failing--
		}
		s.mu.Unlock()
		switch {
		case failing:
			answer(w, http.StatusServiceUnavailable, problem("SERVER_UNAVAILABLE", "The server is temporarily unable to respond"))
		case limited && strings.HasPrefix(r.URL.Path, "/services/data/"):
			answer(w, http.StatusForbidden, problem("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// problem is the error of the REST API.
func problem(code, message string) []map[string]string {
	return []map[string]string{{"errorCode": code, "message": message}}
}

// session finds the session of a request's bearer token.
func (s *Server) session(r *http.Request) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	found, known := s.sessions[token]
	return found, ok && known && s.now().Before(found.expires) && s.users[found.user]
}

// userinfo follows OpenID Connect Core 1.0, 5.3, with Salesforce's own claims.
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) {
	found, ok := s.session(r)
	if !ok {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("Bad_OAuth_Token")) // plain text, as it comes
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"sub": s.URL + "/id/" + s.Org.ID + "/005000000000001AAA", "user_id": "005000000000001AAA", "organization_id": s.id("userinfo"),
		"preferred_username": found.user, "name": "Integration User", "active": true, "user_type": "STANDARD",
	})
}

// query knows the one query that is asked.
func (s *Server) query(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.session(r); !ok {
		answer(w, http.StatusUnauthorized, problem("INVALID_SESSION_ID", "Session expired or invalid"))
		return
	}
	fields, ok := strings.CutSuffix(r.FormValue("q"), " FROM Organization")
	fields, ok2 := strings.CutPrefix(fields, "SELECT ")
	values := map[string]any{"Id": s.id("query"), "Name": s.Org.Name, "IsSandbox": s.Org.Sandbox, "OrganizationType": s.Org.Edition, "InstanceName": "FAKE1"}
	record := map[string]any{"attributes": map[string]string{"type": "Organization"}}
	for _, f := range strings.Split(fields, ",") {
		v, known := values[strings.TrimSpace(f)]
		if ok = ok && known; known {
			record[strings.TrimSpace(f)] = v
		}
	}
	if !ok || !ok2 {
		answer(w, http.StatusBadRequest, problem("MALFORMED_QUERY", "unexpected token"))
		return
	}
	answer(w, http.StatusOK, map[string]any{"totalSize": 1, "done": true, "records": []any{record}})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone
}

func text(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return base64.RawURLEncoding.EncodeToString(b)[:n]
}

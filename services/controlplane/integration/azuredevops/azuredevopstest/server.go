// Package azuredevopstest is a fake of the parts of Azure DevOps' REST API
// that the client calls, in front of bare Git repositories. It is one
// organization on one host, as with Azure DevOps Server.
// https://learn.microsoft.com/en-us/rest/api/azure/devops/
package azuredevopstest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bits of the Git repositories' security namespace.
const (
	Administer        = 1 << 0
	GenericRead       = 1 << 1
	GenericContribute = 1 << 2
)

// User is a person or a service of the organization.
type User struct {
	ID     string // a GUID
	Name   string // unique: user@example.com
	Shown  string // display name, which everybody chooses for themselves
	Gone   bool   // in no group any more
	allow  map[string]int
	deny   map[string]int
	hidden bool // from access control lists
}

func (u *User) descriptor() string {
	return `Microsoft.IdentityModel.Claims.ClaimsIdentity;00000000-0000-0000-0000-000000000001\` + u.Name
}

// Token is a personal access token.
type Token struct {
	Value   string
	User    string // its unique name
	Scopes  []string
	Expires time.Time
}

// Server is the fake.
type Server struct {
	URL          string
	Organization string

	http *http.Server
	done chan struct{}

	mu        sync.Mutex
	tokens    map[string]Token
	users     map[string]*User
	repos     map[string]*repository // by project/name
	pipelines map[int]*pipeline
	signIn    bool
	until     time.Time // of a rate limit
	failing   int
	page      int
	requests  int
	now       func() time.Time
}

// Start runs a server on the loopback address, by a clock.
func Start(organization string, now func() time.Time) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{
		URL: "http://" + listener.Addr().String(), Organization: organization, done: make(chan struct{}),
		tokens: map[string]Token{}, users: map[string]*User{}, repos: map[string]*repository{}, pipelines: map[int]*pipeline{},
		page: 1000, now: now,
	}
	s.http = &http.Server{Handler: s.guard(s.routes()), ReadHeaderTimeout: 10 * time.Second}
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

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	org := "/" + s.Organization
	repo := org + "/{project}/_apis/git/repositories/{repo}"
	mux.HandleFunc("GET "+org+"/_apis/connectionData", s.connection)
	mux.HandleFunc("GET "+org+"/_apis/identities", s.scope("vso.identity", s.identities))
	mux.HandleFunc("GET "+org+"/_apis/accesscontrollists/{namespace}", s.scope("vso.security_manage", s.accessControl))
	mux.HandleFunc("GET "+repo, s.repo(s.getRepository))
	mux.HandleFunc("GET "+repo+"/items", s.repo(s.items))
	mux.HandleFunc("GET "+repo+"/refs", s.repo(s.refs))
	mux.HandleFunc("GET "+repo+"/pullrequests", s.repo(s.listPulls))
	mux.HandleFunc("GET "+repo+"/pullrequests/{number}", s.pull(s.getPull))
	mux.HandleFunc("GET "+repo+"/pullRequests/{number}/labels", s.pull(s.labels))
	mux.HandleFunc("GET "+repo+"/pullRequests/{number}/iterations", s.pull(s.iterations))
	mux.HandleFunc("GET "+repo+"/pullRequests/{number}/threads", s.pull(s.listThreads))
	mux.HandleFunc("POST "+repo+"/pullRequests/{number}/threads", s.pull(s.postThread))
	mux.HandleFunc("PATCH "+repo+"/pullRequests/{number}/threads/{thread}/comments/{comment}", s.pull(s.patchComment))
	mux.HandleFunc("POST "+repo+"/pullRequests/{number}/threads/{thread}/comments/{comment}/likes", s.pull(s.like))
	mux.HandleFunc("POST "+repo+"/pullRequests/{number}/statuses", s.pull(s.postPullStatus))
	mux.HandleFunc("POST "+repo+"/commits/{commit}/statuses", s.repo(s.postStatus))
	mux.HandleFunc("POST "+org+"/{project}/_apis/pipelines/{pipeline}/runs", s.scope("vso.build_execute", s.startRun))
	mux.HandleFunc("GET "+org+"/{project}/_apis/pipelines/{pipeline}/runs/{run}", s.scope("vso.build", s.getRun))
	return mux
}

// AddUser adds somebody.
func (s *Server) AddUser(u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.ID == "" {
		u.ID = newID()
	}
	u.allow, u.deny = map[string]int{}, map[string]int{}
	s.users[u.Name] = &u
}

// HasUser says whether somebody was added.
func (s *Server) HasUser(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.users[name] != nil
}

// Allow sets what a user may and may not do with a repository, groups and
// inheritance taken together.
func (s *Server) Allow(user, repository string, allow, deny int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[user].allow[repository], s.users[user].deny[repository] = allow, deny
}

// RevokeTokens makes all of them worthless.
func (s *Server) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// AddToken adds or replaces a personal access token.
func (s *Server) AddToken(t Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[t.Value] = t
}

// SignIn makes the server answer strangers with its sign-in page, as the
// hosted service does for some: 203 and HTML.
func (s *Server) SignIn(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signIn = on
}

// LimitRate turns every request down until so much time has passed.
func (s *Server) LimitRate(after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = s.now().Add(after)
}

// Outage answers the next requests with a gateway's 502.
func (s *Server) Outage(requests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = requests
}

// PageSize is the most that a list shows at once.
func (s *Server) PageSize(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.page = n
}

// Requests counts what came in.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// guard checks limits, credentials and the API version before all else.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests++
		_, password, _ := r.BasicAuth()
		token, known := s.tokens[password]
		wait, signIn, failing, now := s.until.Sub(s.now()), s.signIn, s.failing > 0, s.now()
		if failing {
			s.failing--
		}
		s.mu.Unlock()
		switch {
		case failing:
			http.Error(w, "<html><h1>Bad gateway</h1></html>", http.StatusBadGateway)
		case wait > 0:
			w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
			problem(w, http.StatusTooManyRequests, "TF400733", "The request has been canceled: Request was blocked due to exceeding usage of resource")
		case !known && signIn:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.WriteHeader(http.StatusNonAuthoritativeInfo)
			_, _ = w.Write([]byte("<html><title>Azure DevOps Services | Sign In</title></html>")) // the client is gone
		case !known && r.Header.Get("X-TFS-FedAuthRedirect") != "Suppress":
			http.Redirect(w, r, s.URL+"/_signin?reply_to=x", http.StatusFound)
		case !known:
			problem(w, http.StatusUnauthorized, "TF400813", "The user '' is not authorized to access this resource.")
		case !token.Expires.IsZero() && now.After(token.Expires):
			problem(w, http.StatusUnauthorized, "", "Access Denied: The Personal Access Token used has expired.")
		case r.Method != http.MethodGet && r.URL.Query().Get("api-version") == "":
			problem(w, http.StatusBadRequest, "VssVersionNotSpecifiedException", "No api-version was supplied for the \""+r.Method+"\" request.")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// caller is whose token a request has.
func (s *Server) caller(r *http.Request) (*User, Token) {
	_, password, _ := r.BasicAuth()
	token := s.tokens[password]
	return s.users[token.User], token
}

// scope asks for one of the scopes of personal access tokens. Handlers within
// it hold the lock.
func (s *Server) scope(name string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, token := s.caller(r); !slices.ContainsFunc(token.Scopes, func(have string) bool { return have == name || strings.HasPrefix(have, name+"_") }) {
			problem(w, http.StatusForbidden, "TF400813", "The token has not the scope "+name)
			return
		}
		h(w, r)
	}
}

// connection says who calls.
func (s *Server) connection(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := r.URL.Query().Get("api-version"); v != "" && !strings.Contains(v, "-preview") {
		problem(w, http.StatusBadRequest, "VssInvalidPreviewVersionException", "The requested REST API is in preview: add -preview to the version.")
		return
	}
	user, _ := s.caller(r)
	answer(w, map[string]any{
		"authenticatedUser": map[string]any{
			"id": user.ID, "descriptor": user.descriptor(), "providerDisplayName": user.Shown, "isActive": true,
			"properties": map[string]any{"Account": property(user.Name)},
		},
		"instanceId": newID(),
	})
}

func property(v string) map[string]string {
	return map[string]string{"$type": "System.String", "$value": v}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8; api-version=7.1")
	_ = json.NewEncoder(w).Encode(v) // the client is gone
}

func list[T any](w http.ResponseWriter, values []T) {
	if values == nil {
		values = []T{}
	}
	answer(w, map[string]any{"count": len(values), "value": values})
}

// problem is the error that the API wraps all failures in.
func problem(w http.ResponseWriter, status int, key, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"$id": "1", "message": message, "typeKey": key, "errorCode": 0, "eventId": 3000})
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])                      // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // RFC 9562, 5.4
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

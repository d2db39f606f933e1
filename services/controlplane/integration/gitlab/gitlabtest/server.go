// Package gitlabtest is a fake of the parts of GitLab's REST API that the client
// calls, in front of bare Git repositories.
// https://docs.gitlab.com/api/rest/
package gitlabtest

import (
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"skep/services/controlplane/integration/gittest"
)

// User is somebody with an account.
type User struct {
	Name  string
	State string // active, blocked
	id    int
}

// Member is what a project knows of a user.
type Member struct {
	Access     int    // 10 guest, 20 reporter, 30 developer, 40 maintainer, 50 owner
	State      string // of the user, active if empty
	Membership string // active if empty, awaiting
	Expires    string // 2026-01-31, or empty
}

// Server is the fake.
type Server struct {
	URL string

	http *http.Server
	done chan struct{}
	now  func() time.Time

	mu       sync.Mutex
	tokens   map[string]string // to the name of its user
	users    map[string]*User
	projects map[string]*project
	ids      int
	until    time.Time // of a rate limit
	failing  int
	requests int
	actions  []string
	strict   bool
}

// Start runs a server on the loopback address, by a clock. Its API is below
// /gitlab, as in a relative URL installation.
func Start(now func() time.Time) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{
		URL: "http://" + listener.Addr().String() + "/gitlab", done: make(chan struct{}), now: now, ids: 1000,
		tokens: map[string]string{}, users: map[string]*User{}, projects: map[string]*project{},
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
	const api, merge = "/gitlab/api/v4", "/gitlab/api/v4/projects/{project}/merge_requests/{number}"
	mux.HandleFunc("GET "+api+"/user", s.locked(s.me))
	mux.HandleFunc("GET "+api+"/users", s.locked(s.listUsers))
	mux.HandleFunc("GET "+api+"/projects/{project}", s.in(s.getProject))
	mux.HandleFunc("GET "+api+"/projects/{project}/members/all/{user}", s.in(s.getMember))
	mux.HandleFunc("GET "+api+"/projects/{project}/repository/archive.tar.gz", s.in(s.archive))
	mux.HandleFunc("GET "+api+"/projects/{project}/repository/branches/{branch}", s.in(s.branch))
	mux.HandleFunc("GET "+api+"/projects/{project}/repository/commits/{commit}/statuses", s.in(s.listStatuses))
	mux.HandleFunc("POST "+api+"/projects/{project}/statuses/{commit}", s.in(s.postStatus))
	mux.HandleFunc("GET "+merge, s.merge(s.getMerge))
	mux.HandleFunc("GET "+merge+"/notes", s.merge(s.listNotes))
	mux.HandleFunc("POST "+merge+"/notes", s.merge(s.postNote))
	mux.HandleFunc("PUT "+merge+"/notes/{note}", s.merge(s.putNote))
	mux.HandleFunc("POST "+merge+"/notes/{note}/award_emoji", s.merge(s.award))
	return mux
}

// AddUser adds or replaces somebody.
func (s *Server) AddUser(u User) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.State == "" {
		u.State = "active"
	}
	if old := s.users[u.Name]; old != nil {
		u.id = old.id
	} else {
		u.id = s.next()
	}
	s.users[u.Name] = &u
}

// HasUser says whether somebody has an account.
func (s *Server) HasUser(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.users[name] != nil
}

func (s *Server) next() int {
	s.ids++
	return s.ids
}

// AddToken gives a user a token.
func (s *Server) AddToken(token, user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token] = user
}

// RevokeTokens makes all of them worthless.
func (s *Server) RevokeTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// AddProject serves a bare repository as a project, group/name.
func (s *Server) AddProject(path string, git gittest.Repository) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.projects[path] = &project{
		id: s.next(), git: git, members: map[string]Member{}, merges: map[int]*mergeRequest{},
		statuses: map[string][]*Status{}, replaced: map[string][]byte{},
	}
}

// SetMember gives a user a place in a project, its groups counted in.
func (s *Server) SetMember(project, user string, m Member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.projects[project].members[user] = m
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

// RefuseStatuses answers every new status with 400.
func (s *Server) RefuseStatuses() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strict = true
}

// Requests counts what came in.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Actions are the quick actions that notes carried out.
func (s *Server) Actions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.actions)
}

// guard checks limits and credentials before all else.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests++
		known := s.caller(r) != nil
		wait, failing := s.until.Sub(s.now()), s.failing > 0
		if failing {
			s.failing--
		}
		s.mu.Unlock()
		switch {
		case failing:
			http.Error(w, "<html>GitLab is not responding</html>", http.StatusBadGateway)
		case wait > 0:
			w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
			w.Header().Set("RateLimit-Remaining", "0")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = w.Write([]byte("Retry later\n")) // plain text, as it comes
		case !known:
			answer(w, http.StatusUnauthorized, map[string]string{"error": "invalid_token", "error_description": "Token was revoked. You have to re-authorize from the user."})
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// caller is whose token a request has, nil for nobody.
func (s *Server) caller(r *http.Request) *User {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		token = r.Header.Get("PRIVATE-TOKEN")
	}
	return s.users[s.tokens[token]]
}

func (s *Server) locked(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		h(w, r)
	}
}

func (u *User) show() map[string]any {
	return map[string]any{"id": u.id, "username": u.Name, "name": "Somebody", "state": u.State}
}

func (s *Server) me(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, s.caller(r).show())
}

// listUsers finds a user name, whatever its case; none finds everybody.
func (s *Server) listUsers(w http.ResponseWriter, r *http.Request) {
	found := []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(s.users)) {
		if want := r.FormValue("username"); want == "" || strings.EqualFold(name, want) {
			found = append(found, s.users[name].show())
		}
	}
	page(w, r, found)
}

// page answers a page of a list, as offset-based pagination does.
func page[T any](w http.ResponseWriter, r *http.Request, all []T) {
	number, size := 1, 20
	if n, err := strconv.Atoi(r.FormValue("page")); err == nil && n > 0 {
		number = n
	}
	if n, err := strconv.Atoi(r.FormValue("per_page")); err == nil && n > 0 {
		size = min(n, 100)
	}
	from := min((number-1)*size, len(all))
	to := min(from+size, len(all))
	w.Header().Set("X-Page", strconv.Itoa(number))
	w.Header().Set("X-Next-Page", "")
	if to < len(all) {
		w.Header().Set("X-Next-Page", strconv.Itoa(number+1))
		next := url.URL{Path: r.URL.Path, RawQuery: url.Values{"page": {strconv.Itoa(number + 1)}}.Encode()}
		w.Header().Set("Link", "<"+next.String()+`>; rel="next"`)
	}
	answer(w, http.StatusOK, all[from:to])
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone
}

func refuse(w http.ResponseWriter, status int, message string) {
	answer(w, status, map[string]string{"message": message})
}

func read(w http.ResponseWriter, r *http.Request, v any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 8<<20)).Decode(v); err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"error": "malformed body"})
		return false
	}
	return true
}

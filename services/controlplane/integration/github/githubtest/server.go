// Package githubtest is a GitHub for tests and for the demonstration: bare Git
// repositories behind as much of the REST API as Skep calls, and webhooks. It
// follows https://docs.github.com/rest in what it checks and answers; it keeps
// everything but the repositories in memory.
package githubtest

import (
	"cmp"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"skep/services/controlplane"
)

// Options are what a server knows when it starts.
type Options struct {
	// Folder takes the repositories. It exists, and is the caller's to remove.
	Folder string
	App    *App  // nil: no App is registered
	User   *User // nil: no personal access token is good
	// Address and ArchiveAddress are where the two servers listen; empty is a
	// free port of 127.0.0.1. Archives have one of their own, as codeload.github.com
	// is one.
	Address, ArchiveAddress string
	// Enterprise serves the API below /api/v3/, as an appliance does.
	Enterprise bool
	Now        func() time.Time // nil: the machine's clock
	// TokenLifetime is how long an installation token is good; 0: an hour.
	TokenLifetime time.Duration
}

// App is a GitHub App with one installation, which has every repository that is
// not hidden from it.
type App struct {
	ID           int64
	Slug         string
	Key          *rsa.PublicKey
	Installation int64
	// Permissions that the installation has: "contents": "read".
	Permissions map[string]string
}

// User has a personal access token, for every repository that is not hidden.
type User struct {
	Login string
	Token string
}

// Server is a running GitHub. Its methods act as GitHub's users do.
type Server struct {
	options Options
	git     git
	base    string // of the API, with a slash at the end
	archive string // of codeload
	page    string // of the website, whose pages do not exist

	mux     *http.ServeMux
	servers sync.WaitGroup
	api     *http.Server
	load    *http.Server

	mu           sync.Mutex
	ids          int64
	users        map[string]int64 // by login
	repositories map[controlplane.Repository]*repository
	tokens       map[string]*token
	revoked      bool
	hooks        []*hook
	deliveries   []*Delivery
	requests     int
	strangers    []string // Authorization headers that reached codeload
	limits       limits
}

// Start serves until Close.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.TokenLifetime = cmp.Or(o.TokenLifetime, time.Hour)
	s := &Server{
		options: o, git: git{folder: o.Folder}, ids: 1000, users: map[string]int64{}, tokens: map[string]*token{},
		repositories: map[controlplane.Repository]*repository{}, limits: limits{limit: 5000},
	}
	s.mux = s.newMux()
	var listen net.ListenConfig
	api, err := listen.Listen(ctx, "tcp", cmp.Or(o.Address, "127.0.0.1:0"))
	if err != nil {
		return nil, err
	}
	load, err := listen.Listen(ctx, "tcp", cmp.Or(o.ArchiveAddress, "127.0.0.1:0"))
	if err != nil {
		return nil, errors.Join(err, api.Close())
	}
	s.page, s.archive = "http://"+api.Addr().String()+"/", "http://"+load.Addr().String()+"/"
	s.base = s.page
	var handler http.Handler = http.HandlerFunc(s.serve)
	if o.Enterprise {
		s.base += "api/v3/"
		handler = http.StripPrefix("/api/v3", handler)
	}
	s.api = &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	s.load = &http.Server{Handler: http.HandlerFunc(s.serveArchive), ReadHeaderTimeout: 10 * time.Second}
	s.servers.Go(func() { _ = s.api.Serve(api) }) // it always ends with an error, after Close
	s.servers.Go(func() { _ = s.load.Serve(load) })
	return s, nil
}

// Close ends both servers.
func (s *Server) Close() error {
	err := errors.Join(s.api.Close(), s.load.Close())
	s.servers.Wait()
	return err
}

// URL is the address of the API.
func (s *Server) URL() string { return s.base }

// Requests counts what came in, whatever the answer.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Strangers are the Authorization headers that reached the server of archives,
// where none belongs.
func (s *Server) Strangers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.strangers...)
}

func (s *Server) now() time.Time { return s.options.Now() }

// id is a number that nothing else has.
func (s *Server) id() int64 {
	s.ids++
	return s.ids
}

// user is the number of a login, which everybody has who was ever named.
func (s *Server) user(login string) int64 {
	if s.users[login] == 0 {
		s.users[login] = s.id()
	}
	return s.users[login]
}

// call is a request to the API, by somebody.
type call struct {
	*http.Request
	who  principal
	repo *repository // nil where the path has none

	answer answer
}

// answer is what a call gets: JSON, unless body is nil.
type answer struct {
	status int
	body   any
	header map[string]string
}

func ok(body any) answer      { return answer{status: http.StatusOK, body: body} }
func created(body any) answer { return answer{status: http.StatusCreated, body: body} }

func problem(status int, format string, args ...any) answer {
	return answer{status: status, body: object{
		"message": fmt.Sprintf(format, args...), "documentation_url": "https://docs.github.com/rest", "status": strconv.Itoa(status),
	}}
}

func missing() answer { return problem(http.StatusNotFound, "Not Found") }

// invalid is the answer to a field that has no good value.
func invalid(resource, field, message string) answer {
	return answer{status: http.StatusUnprocessableEntity, body: object{
		"message": "Validation Failed", "documentation_url": "https://docs.github.com/rest", "status": "422",
		"errors": []object{{"resource": resource, "code": "custom", "field": field, "message": message}},
	}}
}

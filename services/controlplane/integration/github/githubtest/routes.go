package githubtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"skep/services/controlplane"
)

// route is one operation of the API, and what a token must be allowed for it.
type route struct {
	pattern string
	needs   []need // one of them; none: see the handler
	handle  func(*Server, *call) answer
}

// need is a permission of an installation, in GitHub's words.
type need struct{ name, level string }

var (
	readContents = []need{{"contents", "read"}}
	readPulls    = []need{{"pull_requests", "read"}}
	readComments = []need{{"issues", "read"}, {"pull_requests", "read"}}
	reacts       = []need{{"issues", "write"}}
	comments     = []need{{"issues", "write"}, {"pull_requests", "write"}}
	metadata     = []need{{"metadata", "read"}}
)

const repo = "/repos/{owner}/{name}"

var routes = []route{
	{"GET /app", nil, (*Server).getApp},
	{"GET /app/installations/{id}", nil, (*Server).getInstallation},
	{"POST /app/installations/{id}/access_tokens", nil, (*Server).createToken},
	{"GET /user", nil, (*Server).getUser},
	{"GET /users/{login}", nil, (*Server).getUserByLogin},

	{"GET " + repo, metadata, (*Server).getRepository},
	{"GET " + repo + "/git/ref/{ref...}", readContents, (*Server).getRef},
	{"GET " + repo + "/tarball/{ref...}", readContents, (*Server).getTarball},
	{"GET " + repo + "/collaborators/{login}/permission", metadata, (*Server).getPermission},
	{"GET " + repo + "/pulls/{number}", readPulls, (*Server).getPull},

	{"GET " + repo + "/issues/{number}/comments", readComments, (*Server).listComments},
	{"POST " + repo + "/issues/{number}/comments", comments, (*Server).createComment},
	{"PATCH " + repo + "/issues/comments/{id}", comments, (*Server).updateComment},
	{"DELETE " + repo + "/issues/comments/{id}", comments, (*Server).deleteComment},
	{"POST " + repo + "/issues/comments/{id}/reactions", reacts, (*Server).createReaction},

	{"POST " + repo + "/statuses/{sha}", []need{{"statuses", "write"}}, (*Server).createStatus},
	{"GET " + repo + "/deployments", []need{{"deployments", "read"}}, (*Server).listDeployments},
	{"POST " + repo + "/deployments", []need{{"deployments", "write"}}, (*Server).createDeployment},
	{"GET " + repo + "/deployments/{id}/statuses", []need{{"deployments", "read"}}, (*Server).listDeploymentStatuses},
	{"POST " + repo + "/deployments/{id}/statuses", []need{{"deployments", "write"}}, (*Server).createDeploymentStatus},
	{"GET " + repo + "/commits/{sha}/check-runs", []need{{"checks", "read"}}, (*Server).listCheckRuns},
	{"POST " + repo + "/check-runs", []need{{"checks", "write"}}, (*Server).createCheckRun},
	{"PATCH " + repo + "/check-runs/{id}", []need{{"checks", "write"}}, (*Server).updateCheckRun},
}

// serve is every request to the API. One at a time is enough here.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	a := s.answer(r)
	h := w.Header()
	h.Set("Date", s.now().UTC().Format(http.TimeFormat))
	h.Set("Server", "GitHub.com")
	h.Set("X-GitHub-Request-Id", fmt.Sprintf("%04X:%06X", s.requests, s.id()))
	h.Set("X-GitHub-Media-Type", "github.v3; format=json")
	for name, value := range a.header {
		h.Set(name, value)
	}
	if a.body == nil {
		w.WriteHeader(a.status)
		return
	}
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(a.status)
		_ = json.NewEncoder(w).Encode(a.body) // whoever went away needs no answer
		return
	}
	w.WriteHeader(a.status)
	_, _ = fmt.Fprint(w, a.body)
}

func (s *Server) answer(r *http.Request) answer {
	down := s.limits.down()
	if down && !s.limits.lost {
		return badGateway()
	}
	if r.UserAgent() == "" {
		return problem(http.StatusForbidden, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header.")
	}
	who, refused := s.authenticate(r)
	if refused != nil {
		return *refused
	}
	a, limited := s.limits.turnDown(s.now())
	if !limited {
		a = s.dispatch(&call{Request: r, who: who})
	}
	if down {
		return badGateway()
	}
	if a.header == nil {
		a.header = map[string]string{}
	}
	s.limits.describe(a.header, s.now())
	return a
}

type pending struct{}

// newMux leads from paths to routes; the call travels in the request's context.
func (s *Server) newMux() *http.ServeMux {
	mux := http.NewServeMux()
	for _, route := range routes {
		mux.HandleFunc(route.pattern, func(_ http.ResponseWriter, r *http.Request) {
			c := r.Context().Value(pending{}).(*call)
			c.Request = r
			if a, denied := s.authorize(c, route.needs); denied {
				c.answer = a
				return
			}
			c.answer = route.handle(s, c)
		})
	}
	return mux
}

func (s *Server) dispatch(c *call) answer {
	// What has no route is not found; a path that is not clean is not made so.
	c.answer = missing()
	if strings.Contains(c.URL.Path, "//") || strings.Contains(c.URL.Path+"/", "/../") {
		return c.answer
	}
	s.mux.ServeHTTP(discard{}, c.WithContext(context.WithValue(c.Context(), pending{}, c)))
	return c.answer
}

// discard takes what the mux says of a path without a route.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

// decode reads the body as JSON.
func (c *call) decode(into any) (answer, bool) {
	content, err := io.ReadAll(io.LimitReader(c.Body, 4<<20))
	if err == nil && len(content) > 0 {
		err = json.Unmarshal(content, into)
	}
	if err != nil {
		return problem(http.StatusBadRequest, "Problems parsing JSON"), false
	}
	return answer{}, true
}

// number is an integer in the path; 0 fits nothing.
func (c *call) number(name string) int64 {
	n, err := strconv.ParseInt(c.PathValue(name), 10, 64)
	if err != nil || n < 1 {
		return 0
	}
	return n
}

func (c *call) repository() controlplane.Repository {
	return controlplane.Repository(strings.ToLower(c.PathValue("owner") + "/" + c.PathValue("name")))
}

// paged is a page of items, with GitHub's Link header.
func paged[T any](s *Server, c *call, items []T, wrap func([]T) any) answer {
	size, page := 30, 1
	if n, err := strconv.Atoi(c.FormValue("per_page")); err == nil && n > 0 {
		size = min(n, 100)
	}
	if n, err := strconv.Atoi(c.FormValue("page")); err == nil && n > 0 {
		page = n
	}
	last := max(1, (len(items)+size-1)/size)
	begin, end := min(len(items), (page-1)*size), min(len(items), page*size)
	var links []string
	link := func(rel string, to int) {
		query := url.Values{}
		for name, values := range c.URL.Query() {
			query[name] = values
		}
		query.Set("page", strconv.Itoa(to))
		query.Set("per_page", strconv.Itoa(size))
		links = append(links, fmt.Sprintf(`<%s%s?%s>; rel="%s"`, s.base, strings.TrimPrefix(c.URL.EscapedPath(), "/"), query.Encode(), rel))
	}
	if page > 1 {
		link("prev", page-1)
	}
	if page < last {
		link("next", page+1)
		link("last", last)
	}
	if page > 1 {
		link("first", 1)
	}
	a := ok(wrap(items[begin:end]))
	if len(links) > 0 {
		a.header = map[string]string{"Link": strings.Join(links, ", ")}
	}
	return a
}

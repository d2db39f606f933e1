package dockerproxy

import (
	"net/http"
	"slices"
	"strings"
)

// route is an endpoint of the Docker API, and all that the proxy knows of it.
// A request that matches no route is refused.
type route struct {
	method  string   // a GET answers HEAD too
	path    string   // "{id}" stands for one segment, "{name...}" for several
	needs   []string // switches that open it, all of them; a write needs POST besides
	narrow  narrowing
	answer  answer
	upgrade string // protocol that the connection may change to
	alone   string // switch that opens it without those of needs
	pattern []string
}

// narrowing is what a selector does to a request.
type narrowing int

const (
	cannotNarrow narrowing = iota // refused: it may show or touch what is outside
	clusterWide                   // tells nothing of single objects
	narrowList
	narrowObject
	narrowEvents
)

// answer is the form of what Docker answers.
type answer int

const (
	opaque    answer = iota // passed on as it is
	described               // JSON that may hold secrets
	endless                 // opaque, for as long as both ends want it
)

var (
	containers = []string{"CONTAINERS"}
	images     = []string{"IMAGES"}
)

// routes are the endpoints of API 1.24 to 1.56 without the experimental ones.
// https://docs.docker.com/reference/api/engine/version/v1.51/
var routes = compile([]route{
	{method: "GET", path: "/_ping", needs: []string{"PING"}, narrow: clusterWide},
	{method: "GET", path: "/version", needs: []string{"VERSION"}, narrow: clusterWide},
	{method: "GET", path: "/info", needs: []string{"INFO"}, narrow: clusterWide, answer: described},
	{method: "GET", path: "/events", needs: []string{"EVENTS"}, narrow: narrowEvents, answer: described},
	{method: "GET", path: "/system/df", needs: []string{"SYSTEM"}, answer: described},
	{method: "POST", path: "/auth", needs: []string{"AUTH"}},
	{method: "POST", path: "/build", needs: []string{"BUILD"}},
	{method: "POST", path: "/build/cancel", needs: []string{"BUILD"}},
	{method: "POST", path: "/build/prune", needs: []string{"BUILD"}},
	{method: "POST", path: "/commit", needs: []string{"COMMIT"}},
	{method: "POST", path: "/session", needs: []string{"SESSION"}, answer: endless, upgrade: "h2c"},
	{method: "POST", path: "/grpc", needs: []string{"GRPC"}, answer: endless, upgrade: "h2c"},
	{method: "GET", path: "/distribution/{name...}/json", needs: []string{"DISTRIBUTION"}, answer: described},

	{method: "GET", path: "/containers/json", needs: containers, narrow: narrowList, answer: described},
	{method: "GET", path: "/containers/{id}/json", needs: containers, narrow: narrowObject, answer: described},
	{method: "GET", path: "/containers/{id}/top", needs: containers, narrow: narrowObject},
	{method: "GET", path: "/containers/{id}/stats", needs: containers, narrow: narrowObject, answer: endless},
	{method: "GET", path: "/containers/{id}/changes", needs: containers, narrow: narrowObject},
	{method: "GET", path: "/containers/{id}/logs", needs: []string{"CONTAINERS", "LOGS"}, narrow: narrowObject, answer: endless},
	{method: "GET", path: "/containers/{id}/export", needs: []string{"CONTAINERS", "EXPORT"}, narrow: narrowObject},
	{method: "GET", path: "/containers/{id}/archive", needs: []string{"CONTAINERS", "ARCHIVE"}, narrow: narrowObject},
	{method: "PUT", path: "/containers/{id}/archive", needs: []string{"CONTAINERS", "ARCHIVE"}, narrow: narrowObject},
	{method: "POST", path: "/containers/{id}/copy", needs: []string{"CONTAINERS", "ARCHIVE"}, narrow: narrowObject},
	{method: "POST", path: "/containers/{id}/attach", needs: []string{"CONTAINERS", "ATTACH"}, narrow: narrowObject, answer: endless, upgrade: "tcp"},
	{method: "GET", path: "/containers/{id}/attach/ws", needs: []string{"CONTAINERS", "ATTACH"}, narrow: narrowObject, answer: endless, upgrade: "websocket"},
	{method: "POST", path: "/containers/{id}/exec", needs: []string{"CONTAINERS", "EXEC"}, narrow: narrowObject},
	{method: "POST", path: "/containers/{id}/start", needs: containers, narrow: narrowObject, alone: "ALLOW_START"},
	{method: "POST", path: "/containers/{id}/stop", needs: containers, narrow: narrowObject, alone: "ALLOW_STOP"},
	{method: "POST", path: "/containers/{id}/restart", needs: containers, narrow: narrowObject, alone: "ALLOW_RESTARTS"},
	{method: "POST", path: "/containers/{id}/kill", needs: containers, narrow: narrowObject, alone: "ALLOW_RESTARTS"},
	{method: "POST", path: "/containers/{id}/pause", needs: containers, narrow: narrowObject},
	{method: "POST", path: "/containers/{id}/unpause", needs: containers, narrow: narrowObject},
	{method: "POST", path: "/containers/{id}/rename", needs: containers, narrow: narrowObject},
	{method: "POST", path: "/containers/{id}/resize", needs: containers, narrow: narrowObject},
	{method: "POST", path: "/containers/{id}/update", needs: containers, narrow: narrowObject},
	{method: "POST", path: "/containers/{id}/wait", needs: containers, narrow: narrowObject, answer: endless},
	{method: "DELETE", path: "/containers/{id}", needs: containers, narrow: narrowObject},
	{method: "POST", path: "/containers/create", needs: containers},
	{method: "POST", path: "/containers/prune", needs: containers},

	{method: "GET", path: "/exec/{id}/json", needs: []string{"EXEC"}, narrow: narrowObject, answer: described},
	{method: "POST", path: "/exec/{id}/start", needs: []string{"EXEC"}, narrow: narrowObject, answer: endless, upgrade: "tcp"},
	{method: "POST", path: "/exec/{id}/resize", needs: []string{"EXEC"}, narrow: narrowObject},

	{method: "GET", path: "/images/json", needs: images, answer: described},
	{method: "GET", path: "/images/search", needs: images},
	{method: "GET", path: "/images/get", needs: []string{"IMAGES", "EXPORT"}},
	{method: "GET", path: "/images/{name...}/json", needs: images, answer: described},
	{method: "GET", path: "/images/{name...}/history", needs: images, answer: described},
	{method: "GET", path: "/images/{name...}/attestations", needs: images},
	{method: "GET", path: "/images/{name...}/get", needs: []string{"IMAGES", "EXPORT"}},
	{method: "POST", path: "/images/create", needs: images},
	{method: "POST", path: "/images/load", needs: images},
	{method: "POST", path: "/images/prune", needs: images},
	{method: "POST", path: "/images/{name...}/push", needs: images},
	{method: "POST", path: "/images/{name...}/tag", needs: images},
	{method: "DELETE", path: "/images/{name...}", needs: images},

	{method: "GET", path: "/networks", needs: []string{"NETWORKS"}, narrow: narrowList, answer: described},
	{method: "GET", path: "/networks/{id}", needs: []string{"NETWORKS"}, narrow: narrowObject, answer: described},
	{method: "POST", path: "/networks/create", needs: []string{"NETWORKS"}},
	{method: "POST", path: "/networks/prune", needs: []string{"NETWORKS"}},
	// The body names a container, which may be anybody's.
	{method: "POST", path: "/networks/{id}/connect", needs: []string{"NETWORKS"}},
	{method: "POST", path: "/networks/{id}/disconnect", needs: []string{"NETWORKS"}},
	{method: "DELETE", path: "/networks/{id}", needs: []string{"NETWORKS"}, narrow: narrowObject},

	{method: "GET", path: "/volumes", needs: []string{"VOLUMES"}, narrow: narrowList, answer: described},
	{method: "GET", path: "/volumes/{id}", needs: []string{"VOLUMES"}, narrow: narrowObject, answer: described},
	{method: "POST", path: "/volumes/create", needs: []string{"VOLUMES"}},
	{method: "POST", path: "/volumes/prune", needs: []string{"VOLUMES"}},
	{method: "PUT", path: "/volumes/{id}", needs: []string{"VOLUMES"}, narrow: narrowObject},
	{method: "DELETE", path: "/volumes/{id}", needs: []string{"VOLUMES"}, narrow: narrowObject},

	{method: "GET", path: "/plugins", needs: []string{"PLUGINS"}, answer: described},
	{method: "GET", path: "/plugins/privileges", needs: []string{"PLUGINS"}},
	{method: "GET", path: "/plugins/{name...}/json", needs: []string{"PLUGINS"}, answer: described},
	{method: "POST", path: "/plugins/create", needs: []string{"PLUGINS"}},
	{method: "POST", path: "/plugins/pull", needs: []string{"PLUGINS"}},
	{method: "POST", path: "/plugins/{name...}/enable", needs: []string{"PLUGINS"}},
	{method: "POST", path: "/plugins/{name...}/disable", needs: []string{"PLUGINS"}},
	{method: "POST", path: "/plugins/{name...}/push", needs: []string{"PLUGINS"}},
	{method: "POST", path: "/plugins/{name...}/set", needs: []string{"PLUGINS"}},
	{method: "POST", path: "/plugins/{name...}/upgrade", needs: []string{"PLUGINS"}},
	{method: "DELETE", path: "/plugins/{name...}", needs: []string{"PLUGINS"}},

	{method: "GET", path: "/swarm", needs: []string{"SWARM"}, narrow: clusterWide, answer: described},
	{method: "GET", path: "/swarm/unlockkey", needs: []string{"SWARM"}, narrow: clusterWide, answer: described},
	{method: "POST", path: "/swarm/init", needs: []string{"SWARM"}},
	{method: "POST", path: "/swarm/join", needs: []string{"SWARM"}},
	{method: "POST", path: "/swarm/leave", needs: []string{"SWARM"}},
	{method: "POST", path: "/swarm/unlock", needs: []string{"SWARM"}},
	{method: "POST", path: "/swarm/update", needs: []string{"SWARM"}},
	{method: "GET", path: "/nodes", needs: []string{"NODES"}, narrow: clusterWide, answer: described},
	{method: "GET", path: "/nodes/{id}", needs: []string{"NODES"}, narrow: clusterWide, answer: described},
	{method: "POST", path: "/nodes/{id}/update", needs: []string{"NODES"}},
	{method: "DELETE", path: "/nodes/{id}", needs: []string{"NODES"}},

	{method: "GET", path: "/services", needs: []string{"SERVICES"}, narrow: narrowList, answer: described},
	{method: "GET", path: "/services/{id}", needs: []string{"SERVICES"}, narrow: narrowObject, answer: described},
	{method: "GET", path: "/services/{id}/logs", needs: []string{"SERVICES", "LOGS"}, narrow: narrowObject, answer: endless},
	{method: "POST", path: "/services/create", needs: []string{"SERVICES"}},
	{method: "POST", path: "/services/{id}/update", needs: []string{"SERVICES"}, narrow: narrowObject},
	{method: "DELETE", path: "/services/{id}", needs: []string{"SERVICES"}, narrow: narrowObject},
	{method: "GET", path: "/tasks", needs: []string{"TASKS"}, narrow: narrowList, answer: described},
	{method: "GET", path: "/tasks/{id}", needs: []string{"TASKS"}, narrow: narrowObject, answer: described},
	{method: "GET", path: "/tasks/{id}/logs", needs: []string{"TASKS", "LOGS"}, narrow: narrowObject, answer: endless},

	{method: "GET", path: "/configs", needs: []string{"CONFIGS"}, narrow: narrowList, answer: described},
	{method: "GET", path: "/configs/{id}", needs: []string{"CONFIGS"}, narrow: narrowObject, answer: described},
	{method: "POST", path: "/configs/create", needs: []string{"CONFIGS"}},
	{method: "POST", path: "/configs/{id}/update", needs: []string{"CONFIGS"}, narrow: narrowObject},
	{method: "DELETE", path: "/configs/{id}", needs: []string{"CONFIGS"}, narrow: narrowObject},
	{method: "GET", path: "/secrets", needs: []string{"SECRETS"}, narrow: narrowList, answer: described},
	{method: "GET", path: "/secrets/{id}", needs: []string{"SECRETS"}, narrow: narrowObject, answer: described},
	{method: "POST", path: "/secrets/create", needs: []string{"SECRETS"}},
	{method: "POST", path: "/secrets/{id}/update", needs: []string{"SECRETS"}, narrow: narrowObject},
	{method: "DELETE", path: "/secrets/{id}", needs: []string{"SECRETS"}, narrow: narrowObject},
})

// compile files routes under their first segment.
func compile(list []route) map[string][]*route {
	out := map[string][]*route{}
	for _, r := range list {
		r.pattern = strings.Split(r.path[1:], "/")
		out[r.pattern[0]] = append(out[r.pattern[0]], &r)
	}
	return out
}

// find returns the one route of a request, and the name of the object in its
// path. No two routes of a method match the same path.
func find(method string, segments []string) (r *route, name string, ok bool) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for _, r := range routes[segments[0]] {
		if r.method == method {
			if name, ok := r.match(segments); ok {
				return r, name, true
			}
		}
	}
	return nil, "", false
}

func (r *route) match(segments []string) (name string, ok bool) {
	extra := len(segments) - len(r.pattern)
	if extra < 0 {
		return "", false
	}
	at := slices.IndexFunc(r.pattern, isPlaceholder)
	switch {
	case extra > 0 && (at < 0 || !takesSlashes(r.pattern[at])):
		return "", false
	case at < 0:
		return "", slices.Equal(r.pattern, segments)
	}
	before, named, after := segments[:at], segments[at:at+1+extra], segments[at+1+extra:]
	if !slices.Equal(before, r.pattern[:at]) || !slices.Equal(after, r.pattern[at+1:]) {
		return "", false
	}
	return strings.Join(named, "/"), true
}

// Endpoints are all that the proxy knows, as ALLOW names them.
func Endpoints() []string {
	var out []string
	for _, list := range routes {
		for _, r := range list {
			out = append(out, r.String())
		}
	}
	slices.Sort(out)
	return out
}

func isPlaceholder(segment string) bool {
	return len(segment) > 2 && segment[0] == '{' && segment[len(segment)-1] == '}'
}

func takesSlashes(placeholder string) bool { return strings.HasSuffix(placeholder, "...}") }

// withName is the path of the route for one object.
func (r *route) withName(name string) []string {
	out := slices.Clone(r.pattern)
	if at := slices.IndexFunc(out, isPlaceholder); at >= 0 {
		out = slices.Replace(out, at, at+1, strings.Split(name, "/")...)
	}
	return out
}

func (r *route) reads() bool { return r.method == http.MethodGet }

// kind is the sort of object that the route is about: "containers".
func (r *route) kind() string { return r.pattern[0] }

// lasts reports whether the answer may go on for ever.
func (r *route) lasts() bool { return r.answer == endless || r.narrow == narrowEvents }

func (r *route) String() string { return r.method + " " + r.path }

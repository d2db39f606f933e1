package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// An engine that is no manager says so with the status of an outage. It is not
// waited for, and what helps is said.
func TestAnEngineThatIsNoManager(t *testing.T) {
	const says = `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/_ping" {
			w.Header().Set("Api-Version", "1.47")
			return
		}
		respond(w, http.StatusServiceUnavailable, object{"message": says})
	}))
	defer server.Close()
	t.Setenv("DOCKER_HOST", "tcp://"+strings.TrimPrefix(server.URL, "http://"))
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"cluster.yaml": secretsCluster, "app/stack.yaml": secretless})
	for _, command := range []string{"plan", "deploy", "status"} {
		out := skepIn(t, dir, exitFailed, command)
		contains(t, out, "Error response from daemon: "+says, "`docker swarm init` makes this engine one")
		for _, wrong := range []string{"unavailable:", "waits"} {
			if strings.Contains(out, wrong) {
				t.Errorf("skep %s says %q:\n%s", command, wrong, out)
			}
		}
	}

	// Nobody is there: the client's own words say so.
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
	for _, command := range []string{"plan", "deploy"} {
		out := skepIn(t, dir, exitFailed, command)
		contains(t, out, "skep: read the Swarm: Cannot connect to the Docker daemon", "DOCKER_HOST must name a manager of the Swarm that answers")
		if strings.Contains(out, "waits") {
			t.Errorf("skep %s waits:\n%s", command, out)
		}
	}
}

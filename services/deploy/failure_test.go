package deploy

import (
	"strings"
	"testing"
)

// The sentences are those of engines 20.10 to 29.
func TestLikelyCause(t *testing.T) {
	for message, want := range map[string]string{
		"No such image: web:2": "the node has no such image",
		`failed to resolve reference "docker.io/library/web:2": failed to do request: dial tcp: connect: network is unreachable`: "the node has no such image",
		"task: non-zero exit (137): dockerexec: unhealthy container":                                                             "the health check fails",
		`invalid mount config for type "bind": bind source path does not exist: /srv`:                                            "the node lacks the folder",
		"secret 4q2nmxqb7p7zqhbqnfbqlyvq1 not found":                                                                             "its log on the leading manager",
		"config reference app_conf not found":                                                                                    "a config cannot be had",
		"network app_default not found":                                                                                          "a network cannot be set up",
		"something else":                                                                                                         "",
	} {
		if got := likelyCause(message, nil, false); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%s: %q, not %q", message, got, want)
		}
	}
}

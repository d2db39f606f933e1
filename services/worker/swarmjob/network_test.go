package swarmjob

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"skep/internal/swarmtest"
	"skep/services/worker"
	"skep/services/worker/launchertest"
)

// networks shows that a job reaches others only where it is let.
func networks(t *testing.T, swarm *swarmtest.Swarm, l Launcher) {
	if err := swarm.Import("whoami:test", swarmtest.Binary(t, "skep/cmd/whoami")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"network", "create", "-d", "overlay", "--internal", "proxy"},
		{"network", "create", "-d", "overlay", "--internal", "npm"},
		{"service", "create", "-q", "--no-resolve-image", "--network", "proxy", "--endpoint-mode", "dnsrr", "--name", "whoami", "whoami:test"},
		{"service", "create", "-q", "--no-resolve-image", "--network", "npm", "--endpoint-mode", "dnsrr", "--name", "registry", "whoami:test"},
	} {
		if _, err := swarm.Docker(args...); err != nil {
			t.Fatal(err)
		}
	}
	const nowhere = "npm: error: Get \"/left-pad\": unsupported protocol scheme"
	for name, c := range map[string]struct {
		swarm   bool
		image   string
		tasks   []string // networks of tasks
		npm     bool
		reaches bool // the service on the network of the proxy
		fetches bool // from the registry
	}{
		"the tree alone":         {npm: true},
		"the Swarm":              {swarm: true, npm: true, reaches: true},
		"its own image":          {image: testImage, tasks: []string{"proxy"}, reaches: true},
		"its own image, and npm": {image: testImage, tasks: []string{"proxy"}, npm: true, reaches: true, fetches: true},
		"npm alone":              {image: testImage, npm: true, fetches: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, l := launchertest.NewJob(t, "dial=tcp,whoami:8080", "npm=/left-pad"), l
			l.Networks, l.TaskNetworks = []string{"proxy"}, c.tasks
			if c.npm {
				l.NPM = NPM{Registry: "http://registry:8080", Network: "npm"}
			}
			j.Swarm, j.Image = c.swarm, c.image
			if c.image != "" {
				j.Command[0] = "/skep"
			}
			j.Launch(t, l)
			if strings.Contains(j.All(), "dial: connected") != c.reaches || strings.Contains(j.All(), "npm: 200 OK") != c.fetches ||
				strings.Contains(j.All(), nowhere) == c.fetches {
				t.Errorf("%s", j.All())
			}
			gone(t, l.API, j)
		})
	}
}

// large is a job with a tree that cannot be compressed.
func large(t *testing.T, mib int) *launchertest.Job {
	t.Helper()
	j := launchertest.NewJob(t, "ls=/work", "ls=/skep-job.d")
	content := make([]byte, mib<<20)
	rand.Read(content)
	if err := os.WriteFile(filepath.Join(j.Tree, "file"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	return j
}

// A tree comes in whole up to what configs hold.
func trees(t *testing.T, l Launcher) {
	j := large(t, 30)
	j.Launch(t, l)
	j.Said(t, "stdout: ls: /work file")
	gone(t, l.API, j)
}

func TestLargeTree(t *testing.T) {
	_, err := newPlan(Launcher{}, large(t, 33).Job, "launch")
	if !errors.Is(err, worker.ErrRefused) || !strings.Contains(err.Error(), "a Swarm takes 32.0 MB") {
		t.Errorf("newPlan = %v", err)
	}
}

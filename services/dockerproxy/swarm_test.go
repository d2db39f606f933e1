package dockerproxy

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/internal/swarmtest"
)

// client runs the docker command through a proxy.
type client struct {
	t       *testing.T
	address string
}

func (c client) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=tcp://"+c.address, "DOCKER_CONFIG="+c.t.TempDir())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c client) docker(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Errorf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (c client) refused(reason string, args ...string) {
	c.t.Helper()
	if out, err := c.try(args...); err == nil || !strings.Contains(out, reason) {
		c.t.Errorf("docker %s: got %v, %s; want %q", strings.Join(args, " "), err, out, reason)
	}
}

// TestDocker holds the proxy against a real engine, asked by the real command.
func TestDocker(t *testing.T) {
	swarm := swarmtest.Start(t)
	if err := swarm.Import("whoami:test", swarmtest.Binary(t, "skep/cmd/whoami")); err != nil {
		t.Fatal(err)
	}
	for _, stack := range []string{"media", "blog"} {
		if err := swarm.Deploy("testdata/stack.yaml", stack); err != nil {
			t.Fatal(err)
		}
		if err := swarm.WaitRunning(stack, 3*time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	containers := map[string]string{}
	for _, stack := range []string{"media", "blog"} {
		id, err := swarm.Docker("ps", "-q", "--no-trunc", "--filter", "label=com.docker.stack.namespace="+stack)
		if err != nil {
			t.Fatal(err)
		}
		containers[stack] = strings.TrimSpace(id)
	}
	open := func(t *testing.T, env ...string) client {
		return client{t, serve(t, strings.TrimPrefix(swarm.Host(), "unix://"), t.Output(), env...)}
	}
	reads := []string{"CONTAINERS=1", "SERVICES=1", "TASKS=1", "NETWORKS=1", "CONFIGS=1", "SECRETS=1", "VOLUMES=1", "NODES=1", "INFO=1", "SWARM=1", "IMAGES=1", "SYSTEM=1", "PLUGINS=1"}

	t.Run("values are hidden", func(t *testing.T) {
		c := open(t, reads...)
		for what, args := range map[string][]string{
			"PASSWORD=[redacted]":            {"service", "inspect", "media_web"},
			"GREETING=[redacted]":            {"inspect", containers["media"]},
			`"caddy": "example.com"`:         {"service", "inspect", "media_web"},
			`"api-token": "[redacted]"`:      {"service", "inspect", "media_web"},
			"media_settings":                 {"config", "ls"},
			mask:                             {"config", "inspect", "--pretty", "media_settings"},
			"media_web.1":                    {"service", "ps", "media_web"},
			"media_inside":                   {"network", "ls"},
			"Swarm: active":                  {"info"},
			"whoami:test":                    {"ps"},
			`"homepage.name": "Web"`:         {"inspect", containers["media"]},
			`homepage.widget.key=[redacted]`: {"ps", "--format", "{{.Labels}}"},
		} {
			if out := c.docker(args...); !strings.Contains(out, what) {
				t.Errorf("docker %s: no %s in %s", strings.Join(args, " "), what, out)
			}
		}
		token, err := swarm.Docker("swarm", "join-token", "-q", "worker")
		if err != nil {
			t.Fatal(err)
		}
		for _, list := range routes {
			for _, r := range list {
				if r.answer != described || r.narrow == narrowEvents {
					continue
				}
				for _, name := range []string{"media_web", containers["media"], "media_settings", "media_inside", "whoami:test"} {
					path := strings.NewReplacer("{id}", name, "{name...}", name).Replace(r.path)
					_, body := fetch(t, "GET", "http://"+c.address+path)
					for _, secret := range []string{"hunter2", strings.TrimSpace(token), base64.StdEncoding.EncodeToString([]byte("the password is"))} {
						if strings.Contains(body, secret) {
							t.Errorf("%s shows %s", path, secret)
						}
					}
				}
			}
		}
	})

	t.Run("values are shown", func(t *testing.T) {
		c := open(t, append(slices.Clone(reads), "ENV_VALUES=1", "LABEL_VALUES=1", "CONFIG_DATA=1", "JOIN_TOKENS=1")...)
		for what, args := range map[string][]string{
			"PASSWORD=hunter2":        {"service", "inspect", "media_web"},
			`"api-token": "hunter2"`:  {"service", "inspect", "media_web"},
			"the password is hunter2": {"config", "inspect", "--pretty", "media_settings"},
			"SWMTKN-":                 {"swarm", "join-token", "-q", "worker"},
		} {
			if out := c.docker(args...); !strings.Contains(out, what) {
				t.Errorf("docker %s: no %s in %s", strings.Join(args, " "), what, out)
			}
		}
	})

	t.Run("parts are switches of their own", func(t *testing.T) {
		closed := open(t, append(slices.Clone(reads), "POST=1")...)
		closed.refused("LOGS=1", "logs", containers["media"])
		closed.refused("LOGS=1", "service", "logs", "media_web")
		closed.refused("EXEC=1", "exec", containers["media"], "/whoami", "-h")
		closed.refused("ARCHIVE=1", "cp", containers["media"]+":/whoami", t.TempDir())
		closed.refused("EXPORT=1", "export", "-o", t.TempDir()+"/tar", containers["media"])
		closed.refused("received 403", "attach", "--no-stdin", containers["media"])
		closed.refused("EXPORT=1", "save", "-o", t.TempDir()+"/tar", "whoami:test")

		opened := open(t, append(slices.Clone(reads), "POST=1", "LOGS=1", "EXEC=1", "ARCHIVE=1", "EXPORT=1")...)
		opened.docker("logs", containers["media"])
		opened.docker("service", "logs", "media_web")
		opened.docker("cp", containers["media"]+":/whoami", t.TempDir())
		opened.docker("export", "-o", t.TempDir()+"/tar", containers["media"])
		// Whatever the command says, it was started, and its output came back.
		if out, _ := opened.try("exec", containers["media"], "/whoami", "-nope"); !strings.Contains(out, "-nope") {
			t.Errorf("docker exec: got %s", out)
		}
	})

	t.Run("one write alone", func(t *testing.T) {
		c := open(t, "SERVICES=1", "ENV_VALUES=1", "LABEL_VALUES=1", "ALLOW=POST /services/{id}/update")
		c.docker("service", "update", "-d", "--label-add", "by=proxy", "blog_web")
		c.refused("POST=1", "service", "create", "--name", "x", "whoami:test")
		c.refused("POST=1", "service", "rm", "blog_web")
	})

	t.Run("a stack of one's own", func(t *testing.T) {
		c := open(t, append(slices.Clone(reads), "SELECTOR=com.docker.stack.namespace=media", "LOGS=1")...)
		for _, args := range [][]string{
			{"service", "ls"}, {"ps", "--no-trunc"}, {"network", "ls"}, {"volume", "ls"}, {"config", "ls"}, {"secret", "ls"}, {"service", "ps", "media_web"}, {"stack", "ps", "media"}, {"stack", "services", "media"},
			{"service", "ls", "--filter", "label=com.docker.stack.namespace"}, {"inspect", containers["media"]},
		} {
			if out := c.docker(args...); !strings.Contains(out, "media") && !strings.Contains(out, containers["media"]) || strings.Contains(out, "blog") || strings.Contains(out, containers["blog"]) {
				t.Errorf("docker %s: want what is media's alone, got %s", strings.Join(args, " "), out)
			}
		}
		for _, args := range [][]string{
			{"service", "inspect", "blog_web"}, {"inspect", containers["blog"]}, {"network", "inspect", "blog_inside"}, {"volume", "inspect", "blog_data"},
			{"config", "inspect", "blog_settings"}, {"secret", "inspect", "blog_password"}, {"logs", containers["blog"]},
		} {
			if out, err := c.try(args...); err == nil || strings.Contains(out, "namespace") {
				t.Errorf("docker %s: got %v, %s", strings.Join(args, " "), err, out)
			}
		}
		_, tasks := fetch(t, "GET", "http://"+c.address+"/tasks")
		var list []struct{ ID string }
		if err := json.Unmarshal([]byte(tasks), &list); err != nil || len(list) == 0 {
			t.Errorf("tasks: got %s, %v", tasks, err)
		}
		c.refused("cannot be narrowed", "system", "df")
	})

	t.Run("events of one's own", func(t *testing.T) {
		c := open(t, "SELECTOR=com.docker.stack.namespace=media")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		events := exec.CommandContext(ctx, "docker", "-H", "tcp://"+c.address, "events", "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}")
		out, err := events.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := events.Start(); err != nil {
			t.Fatal(err)
		}
		defer events.Wait()
		defer cancel()
		lines := make(chan string)
		go func() {
			defer close(lines)
			for s := bufio.NewScanner(out); s.Scan(); {
				lines <- s.Text()
			}
		}()
		// Events begin some time after the command does.
		for n, seen := 0, false; !seen; n++ {
			for _, stack := range []string{"blog", "media"} {
				if _, err := swarm.Docker("service", "update", "-d", "--label-add", fmt.Sprintf("n=%d", n), stack+"_web"); err != nil {
					t.Fatal(err)
				}
			}
			select {
			case line, ok := <-lines:
				if !ok || line != "service update media_web" {
					t.Fatalf("got %q", line)
				}
				seen = true
			case <-time.After(2 * time.Second):
			case <-ctx.Done():
				t.Fatal("no event")
			}
		}
		if _, err := swarm.Docker("stack", "rm", "media"); err != nil {
			t.Fatal(err)
		}
		want := map[string]bool{"service remove media_web": true, "network remove media_inside": true, "config remove media_settings": true, "secret remove media_password": true}
		for line := range lines {
			if strings.Contains(line, "blog") {
				t.Errorf("got %q", line)
			}
			if delete(want, line); len(want) == 0 {
				break
			}
		}
		if len(want) > 0 {
			t.Errorf("no event of %v", want)
		}
	})
}

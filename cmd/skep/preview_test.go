package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skep/internal/swarmtest"
	"skep/services/deploy"
)

const previewCluster = `
name: demo
zones: {internal: {domain: localhost}}
ingress:
  default: {zone: internal, auth: none}
  tls: {internal: {mode: "off"}}
secrets: {provider: env}
defaults: {update: {monitor: 1s}}
previews: {stacks: [app], secrets: [op://previews]}
`

const previewApp = `
name: app
services:
  web:
    image: ghcr.io/skep-sh/whoami:0.1.0
    environment: {TOKEN_FILE: op://previews/app/token}
    volumes: ["data:/data"]
    x-files: ["conf.txt:/conf.txt"]
    x-ingress: {host: app, port: 8080}
    x-waive: {unpinned-volume: one node}
    healthcheck: {test: [CMD, /whoami, -healthcheck], interval: 1s, start_period: 5s}
    mem_limit: 64m
  migrate:
    image: ghcr.io/skep-sh/whoami:0.1.0
    command: ["-h"]
    x-job: {before: [web]}
    deploy: {restart_policy: {condition: none}}
    mem_limit: 64m
volumes: {data: {}}
`

// imagesBed is a Swarm that has the images of an ingress and of whoami.
func imagesBed(t *testing.T) *deployBed {
	t.Helper()
	t.Parallel()
	b := bedOn(t, swarmtest.Start(t))
	for image, command := range map[string]string{
		"ghcr.io/skep-sh/skep-ingress:0.1.0":     "skep-ingress",
		"ghcr.io/skep-sh/skep-dockerproxy:0.1.0": "skep-dockerproxy",
		"ghcr.io/skep-sh/whoami:0.1.0":           "whoami",
	} {
		if err := b.s.Import(image, swarmtest.Binary(t, "skep/cmd/"+command)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// sooner finds the example's ingress healthy after a shorter wait.
var sooner = []string{"interval: 10s", "interval: 3s", "start_period: 10s", "start_period: 1m"}

// previewBed is a Swarm with an ingress and an application that is deployed.
func previewBed(t *testing.T) *deployBed {
	t.Helper()
	b := imagesBed(t)
	b.write("cluster.yaml", previewCluster)
	b.example("ingress/stack.yaml", sooner...)
	b.write("app/stack.yaml", previewApp)
	b.write("app/conf.txt", "x\n")
	b.previewing(t, exitDone, "secrets", "sync")
	b.previewing(t, exitDone, "deploy", "--resolve-image", "never")
	return b
}

// previewing runs the command with the store's value, which it must not show.
func (b *deployBed) previewing(t *testing.T, code int, args ...string) string {
	t.Helper()
	const value = "correct-horse-battery"
	out := skep(t, append(b.env(), "SKEP_SECRET_PREVIEWS_APP_TOKEN="+value, "SKEP_SECRETS_VERSION=1"), code, append([]string{"-C", b.dir}, args...)...)
	if strings.Contains(out, value) {
		t.Errorf("skep %s shows the secret", strings.Join(args, " "))
	}
	return out
}

// originals is what the Swarm has beside previews: every object that has no
// preview's label, services with their version and tasks.
func (b *deployBed) originals(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	engine := b.engine(t)
	live, err := deploy.Read(t.Context(), engine)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range live.Services {
		if s.Spec.Labels["skep.preview"] == "" {
			fmt.Fprintln(&out, "service", s.Spec.Name, s.ID, s.Version.Index, docker(t, b.s, "service", "ps", "-q", s.ID))
		}
	}
	for _, o := range live.Configs {
		if o.Spec.Labels["skep.preview"] == "" && o.Spec.Labels["skep.kind"] != "lease" {
			fmt.Fprintln(&out, "config", o.Spec.Name, o.ID)
		}
	}
	for _, o := range live.Secrets {
		if o.Spec.Labels["skep.preview"] == "" {
			fmt.Fprintln(&out, "secret", o.Spec.Name, o.ID)
		}
	}
	for _, n := range live.Networks {
		if n.Labels["skep.preview"] == "" {
			fmt.Fprintln(&out, "network", n.Name, n.ID)
		}
	}
	fmt.Fprintln(&out, docker(t, b.s, "volume", "inspect", "-f", "{{.Name}} {{.CreatedAt}}", "app_data"))
	return out.String()
}

// previewObjects is all that the Swarm has of a preview.
func (b *deployBed) previewObjects(t *testing.T, name string) string {
	t.Helper()
	live, err := deploy.Read(t.Context(), b.engine(t))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, c := range deploy.PreviewObjects(live, name) {
		fmt.Fprintln(&out, c.Kind, c.Name)
	}
	if volumes := docker(t, b.s, "volume", "ls", "-q", "--filter", "label=skep.preview="+name); volumes != "" {
		fmt.Fprintln(&out, "volume", volumes)
	}
	return out.String()
}

// answers waits until a host answers for itself, and returns the container.
func (b *deployBed) answers(t *testing.T, host string) (container string) {
	t.Helper()
	err := swarmtest.Poll(3*time.Minute, func() error {
		status, body, err := b.s.HTTP(host, "/")
		if err != nil {
			return err
		}
		if status != 200 || !strings.Contains(body, "Host: "+host+"\n") || !strings.Contains(body, "token is present") {
			return fmt.Errorf("got %d %q", status, body)
		}
		_, container, _ = strings.Cut(body, "Hostname: ")
		container, _, _ = strings.Cut(container, "\n")
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v\n%s", host, err, docker(t, b.s, "service", "logs", "--raw", "--tail", "30", "ingress_caddy"))
	}
	return container
}

// The guide is followed word by word, but for curl, which asks the private
// Swarm of the test.
func TestPreviewGuide(t *testing.T) {
	b := imagesBed(t)
	if err := os.CopyFS(filepath.Join(b.dir, "stacks/examples"), os.DirFS("../../stacks/examples")); err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	if err := os.Symlink(binary, filepath.Join(bin, "skep")); err != nil { // TestMain goes by this name
		t.Fatal(err)
	}
	guide, err := os.ReadFile("../../docs/guides/previews.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(guide), "## From nothing to a preview")
	section, _, _ = strings.Cut(section, "\n`up` shows")
	var state, part string // what a shell keeps, and commands up to the next curl
	ran, asked := 0, 0
	follow := func() {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		sh := exec.CommandContext(ctx, "sh", "-ec", state+part)
		sh.Dir = b.dir
		sh.Env = append(os.Environ(), append(b.env(), "PATH="+bin+":"+os.Getenv("PATH"))...)
		if out, err := sh.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", part, err, out)
		}
		for command := range strings.Lines(part) {
			if strings.HasPrefix(command, "cd ") || strings.HasPrefix(command, "export ") {
				state += command
			}
		}
		part = ""
	}
	for line := range strings.Lines(section) {
		command, ok := strings.CutPrefix(line, "    ")
		if !ok {
			continue
		}
		if host, ok := strings.CutPrefix(command, "curl -H 'Host: "); ok {
			follow()
			host, _, _ = strings.Cut(host, "'")
			b.answers(t, host)
			asked++
			continue
		}
		part += command
		if strings.HasPrefix(command, "skep ") {
			ran++
		}
	}
	follow()
	if ran < 7 || asked < 3 {
		t.Errorf("the guide has %d commands of skep and asks %d times", ran, asked)
	}
	if got := b.previewObjects(t, "pr-12"); got != "" {
		t.Errorf("the guide leaves\n%s", got)
	}
}

// A preview comes up beside its original, answers by its own name, and goes
// without touching the original.
func TestPreviewOnASwarm(t *testing.T) {
	b := previewBed(t)
	original := b.answers(t, "app.localhost")
	before := b.originals(t)

	// The plan writes nothing and needs no store.
	planned := b.skep(t, exitPending, "plan", "--preview", "pr-1", "--detailed-exitcode")
	contains(t, planned, "+ service pr-1-app_pr-1-web", "+ network pr-1-app", "+ job pr-1-app_pr-1-migrate")
	if got := b.previewObjects(t, "pr-1"); got != "" {
		t.Fatalf("the plan made\n%s", got)
	}

	out := b.previewing(t, exitDone, "preview", "up", "pr-1", "--ttl", "1h", "--resolve-image", "never")
	contains(t, out, "created secret pr-1-app_app-token_v1", "+ service pr-1-app_pr-1-web", "Preview pr-1 is up until", "http://pr-1-app.localhost")
	if container := b.answers(t, "pr-1-app.localhost"); container == original || container == "" {
		t.Errorf("the preview's host is answered by %q, the original is %q", container, original)
	}
	if container := b.answers(t, "app.localhost"); container != original {
		t.Errorf("the original's host is answered by %q, it was %q", container, original)
	}
	aliases := b.inspect(t, "pr-1-app_pr-1-web", `{{range .Spec.TaskTemplate.Networks}}{{.Target}} {{.Aliases}};{{end}}`)
	proxy := docker(t, b.s, "network", "inspect", "-f", "{{.ID}}", "proxy_network")
	contains(t, aliases, proxy+" [pr-1-web];", "[web pr-1-web];")

	var listed struct{ Previews []deploy.Preview }
	if err := json.Unmarshal([]byte(b.skep(t, exitDone, "preview", "list", "--json")), &listed); err != nil {
		t.Fatal(err)
	}
	if len(listed.Previews) != 1 || listed.Previews[0].Hosts[0] != "pr-1-app.localhost" || listed.Previews[0].Running != 2 {
		t.Errorf("listed are %+v", listed.Previews)
	}

	t.Run("the project's own deploy and secrets leave it alone", func(t *testing.T) {
		plan := b.skep(t, exitDone, "plan", "--detailed-exitcode")
		if strings.Contains(plan, "pr-1") {
			t.Errorf("the project's plan names the preview:\n%s", plan)
		}
		if synced := b.previewing(t, exitDone, "secrets", "sync"); strings.Contains(synced, "pr-1") {
			t.Errorf("the project's sync names the preview:\n%s", synced)
		}
	})

	t.Run("again with more time restarts nothing", func(t *testing.T) {
		tasks := docker(t, b.s, "service", "ps", "-q", "pr-1-app_pr-1-web", "pr-1-app_pr-1-migrate")
		expires := listed.Previews[0].Expires
		b.previewing(t, exitDone, "preview", "up", "pr-1", "--ttl", "2h", "--json", "--resolve-image", "never")
		if err := json.Unmarshal([]byte(b.skep(t, exitDone, "preview", "list", "--json")), &listed); err != nil {
			t.Fatal(err)
		}
		if got := listed.Previews[0].Expires; !got.After(expires) {
			t.Errorf("it expires at %s, before at %s", got, expires)
		}
		if now := docker(t, b.s, "service", "ps", "-q", "pr-1-app_pr-1-web", "pr-1-app_pr-1-migrate"); now != tasks {
			t.Errorf("tasks were\n%s\nand are\n%s", tasks, now)
		}
		b.skep(t, exitDone, "plan", "--preview", "pr-1", "--detailed-exitcode")
	})

	t.Run("a name that another preview has", func(t *testing.T) {
		// Preview pr of stack 1-app would be pr-1-app too.
		b.write("other/stack.yaml", strings.NewReplacer("name: app", "name: 1-app", "host: app", "host: other").Replace(previewApp))
		b.write("other/conf.txt", "x\n")
		b.write("cluster.yaml", strings.ReplaceAll(previewCluster, "[app]", "[app, 1-app]"))
		out := b.previewing(t, exitFailed, "preview", "up", "pr", "1-app", "--resolve-image", "never")
		contains(t, out, "belongs to preview pr-1")
		b.write("cluster.yaml", previewCluster)
		if err := os.RemoveAll(b.dir + "/other"); err != nil {
			t.Fatal(err)
		}
		if got := b.previewObjects(t, "pr"); got != "" {
			t.Errorf("it made\n%s", got)
		}
	})

	t.Run("sweep", func(t *testing.T) {
		b.previewing(t, exitDone, "preview", "up", "pr-2", "--ttl", "1s", "--resolve-image", "never")
		err := swarmtest.Poll(2*time.Minute, func() error {
			if out := b.skep(t, exitDone, "preview", "list"); !strings.Contains(out, "(over)") {
				return fmt.Errorf("not over:\n%s", out)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		contains(t, b.skep(t, exitUsage, "preview", "sweep"), "would remove service pr-2-app_pr-2-web", "nothing was removed")
		contains(t, b.skep(t, exitDone, "preview", "sweep", "--yes"), "Preview pr-2 is gone.")
		if got := b.previewObjects(t, "pr-2"); got != "" {
			t.Errorf("left is\n%s", got)
		}
		contains(t, b.skep(t, exitDone, "preview", "sweep", "--yes"), "No preview's time is over.")
		if got := b.previewObjects(t, "pr-1"); !strings.Contains(got, "service pr-1-app_pr-1-web") {
			t.Errorf("of the other preview there is\n%s", got)
		}
	})

	contains(t, b.skep(t, exitUsage, "preview", "down", "pr-1"), "would remove volume pr-1-app_data", "nothing was removed")
	contains(t, b.skep(t, exitDone, "preview", "down", "pr-1", "--yes"), "Preview pr-1 is gone.")
	if got := b.previewObjects(t, "pr-1"); got != "" {
		t.Errorf("left is\n%s", got)
	}
	contains(t, b.skep(t, exitFailed, "preview", "down", "pr-1", "--yes"), "there is no preview pr-1")
	if after := b.originals(t); after != before {
		t.Errorf("the originals were\n%s\nand are\n%s", before, after)
	}
	if container := b.answers(t, "app.localhost"); container != original {
		t.Errorf("the original is answered by %q, it was %q", container, original)
	}
}

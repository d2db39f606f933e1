package main

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"skep/internal/swarmtest"
	"skep/secrets/secretstest"
	"skep/services/controlplane/integration/github/githubtest"
)

// What a preview reaches is said by main's cluster file alone.
const previewCluster = `
name: homelab
zones: {internal: {domain: localhost}}
ingress:
  default: {zone: internal, auth: none}
  tls: {internal: {mode: "off"}}
secrets: {provider: onepassword-connect, host: "http://op-connect-api:8080"}
defaults: {resources: {memory: 64M}, update: {monitor: 1s}}
previews: {stacks: [app], secrets: [op://previews]}
`

// previewApp answers with its host name.
func previewApp(hostname string) string {
	return `
name: app
services:
  web:
    image: ghcr.io/skep-sh/whoami:0.1.0
    hostname: ` + hostname + `
    environment: {TOKEN_FILE: op://previews/app/token}
    x-files: ["file.txt:/file.txt"]
    x-ingress: {host: app, port: 8080}
    healthcheck: {test: [CMD, /whoami, -healthcheck], interval: 1s, start_period: 10s}
    mem_limit: 64m
`
}

const (
	connectToken = "planted-connect-token-6f1b0c"
	appSecret    = "planted-app-secret-9d20e7"
)

// A pull request from its first push to its end: the plan is a comment, a
// comment deploys a preview that answers at its host, a push changes it, and
// nothing is left when it is closed.
func TestPullRequestOnASwarm(t *testing.T) {
	t.Parallel()
	connect := secretstest.NewConnect(connectToken)
	items := connect.Fill(secretstest.Content{"previews": {"app": {"token": appSecret}}})
	p := newPlane(t, "OP_CONNECT_HOST="+secretstest.Start(t, connect), "OP_CONNECT_TOKEN="+connectToken)
	for image, command := range map[string]string{
		"ghcr.io/skep-sh/skep-ingress:0.1.0":     "skep-ingress",
		"ghcr.io/skep-sh/skep-dockerproxy:0.1.0": "skep-dockerproxy",
		"ghcr.io/skep-sh/whoami:0.1.0":           "whoami",
	} {
		if err := p.swarm.Import(image, swarmtest.Binary(t, "skep/cmd/"+command)); err != nil {
			t.Fatal(err)
		}
	}
	p.allowPreviews()
	ingress, err := os.ReadFile("../../stacks/examples/ingress/stack.yaml")
	if err != nil {
		t.Fatal(err)
	}

	// No lock is committed: a pull request's plan has the versions of the Swarm.
	p.reported(p.push("main", "ann", map[string]string{
		"cluster.yaml": previewCluster, "ingress/stack.yaml": string(ingress), "app/stack.yaml": previewApp("first"), "app/file.txt": "x\n",
	}), "success")
	p.answers("app.localhost", "first")

	number := p.pullRequest("localhost", previewApp)
	connect.Set(items["previews/app"], "token", appSecret+"-2")
	p.rotates(t, "app_web", "app_app-token_v1", "app_app-token_v2")

	// A comment for the plan and one for the preview, each of which was kept up
	// to date.
	var ours []string
	for _, c := range p.hub.Comments(repository, number) {
		if strings.HasSuffix(c.Author, "[bot]") {
			ours = append(ours, c.Body)
		}
	}
	if len(ours) != 2 {
		t.Errorf("the pull request has %d comments of Skep's: %q", len(ours), ours)
	}
	for _, planted := range []string{hookSecret, connectToken, appSecret, "PRIVATE KEY", "ghs_"} {
		if strings.Contains(p.log.String()+strings.Join(ours, ""), planted) {
			t.Errorf("%.12s... is shown", planted)
		}
	}
}

// allowPreviews lets the project's pull requests have previews.
func (p *plane) allowPreviews() {
	p.Helper()
	p.call(p.tokenOf("previews", "integrations"), http.MethodPut, "projects/homelab", map[string]any{
		"provider": "github", "integration": "acme", "repository": repository, "folder": "stacks", "cluster": "homelab", "deploy": "always",
		"previews": map[string]any{"enabled": true, "label": "preview", "lifetime": "8h", "limit": 5},
	}, nil)
}

// pullRequest takes a pull request from its first push to its end, for an app
// that is deployed as "first", at a host of the domain.
func (p *plane) pullRequest(domain string, app func(hostname string) string) (number int) {
	p.Helper()
	p.reported(p.push("change", "sam", map[string]string{"app/stack.yaml": app("second")}), "success")
	number = p.open(githubtest.PullRequest{Head: "change", Base: "main", Author: "sam", Title: "Greet"})
	p.said(number, "### Skep: homelab", "**plan** of", "changes are planned", "app_web")
	original, host := "app."+domain, fmt.Sprintf("pr-%d-app.%s", number, domain)
	p.hasObjects(number)

	// Somebody without write access asks first.
	p.comment(number, "sam", "/skep preview")
	p.comment(number, "ann", "/skep preview")
	p.said(number, "**preview** of", "preview until", "http://"+host)
	p.answers(host, "second")
	p.answers(original, "first")
	p.hasObjects(number, "config", "network", "secret", "service")

	head := p.push("change", "sam", map[string]string{"app/stack.yaml": app("third")})
	p.reportedAs("skep/homelab/preview", head, "success")
	p.answers(host, "third")
	p.answers(original, "first")

	p.delivered(func() error { return p.hub.ClosePullRequest(p.Context(), repository, number, "sam") })
	p.said(number, "**destroy** of", "the preview is removed")
	p.hasObjects(number)
	p.answers(original, "first")
	if err := swarmtest.Poll(time.Minute, func() error {
		status, body, err := p.swarm.HTTP(host, "/")
		if err == nil && status == 200 {
			return fmt.Errorf("%s still answers %q", host, body)
		}
		return nil
	}); err != nil {
		p.Error(err)
	}
	return number
}

func (p *plane) open(request githubtest.PullRequest) (number int) {
	p.Helper()
	p.delivered(func() (err error) {
		number, err = p.hub.OpenPullRequest(p.Context(), repository, request)
		return err
	})
	return number
}

func (p *plane) comment(number int, who, body string) {
	p.Helper()
	p.delivered(func() error {
		_, err := p.hub.Comment(p.Context(), repository, number, who, body)
		return err
	})
}

// answers waits until a host answers through the ingress, for itself, from a
// container of this name that has its secret.
func (p *plane) answers(host, hostname string) {
	p.Helper()
	err := swarmtest.Poll(2*time.Minute, func() error {
		status, body, err := p.swarm.HTTP(host, "/")
		if err != nil {
			return err
		}
		if status != 200 || !strings.HasPrefix(body, "Hostname: "+hostname+"\nHost: "+host+"\n") || strings.Count(body, "is present") != 1 {
			return fmt.Errorf("got %d %q", status, body)
		}
		return nil
	})
	if err != nil {
		said, _ := p.swarm.Docker("service", "logs", "--raw", "--tail", "30", "ingress_caddy")
		p.Fatalf("%s: %v\n%s", host, err, said)
	}
}

// hasObjects wants the Swarm to have these kinds of objects of a preview, and
// no others. A node lists a network for a while that the Swarm has removed.
func (p *plane) hasObjects(number int, want ...string) {
	p.Helper()
	if err := swarmtest.Poll(time.Minute, func() error {
		var got []string
		for _, kind := range []string{"config", "network", "secret", "service"} {
			names, err := p.swarm.Docker(kind, "ls", "-q", "--filter", fmt.Sprintf("label=skep.preview=pr-%d", number))
			if err != nil {
				return err
			}
			if strings.TrimSpace(names) != "" {
				got = append(got, kind)
			}
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("of the preview of %d the Swarm has %q, not %q", number, got, want)
		}
		return nil
	}); err != nil {
		p.Error(err)
	}
}

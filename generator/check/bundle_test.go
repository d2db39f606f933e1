package check_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"skep/generator/bundle"
	"skep/generator/check"
	"skep/generator/expand"
	"skep/generator/problem"
	"skep/generator/stack"
)

// refusing is an ingress that refuses what it is told to.
type refusing []stack.Refusal

func (r refusing) Refusals(context.Context, []stack.LabelSet) []stack.Refusal { return r }

func expanded(t *testing.T, files string) (*stack.Cluster, *bundle.Bundle) {
	t.Helper()
	c := load(t, txtar.Parse([]byte(files)))
	b, err := expand.Expand(c)
	if err != nil {
		t.Fatal(err)
	}
	return c, b
}

func TestLabels(t *testing.T) {
	_, b := expanded(t, `
-- ingress/stack.yaml --
name: ingress
services: {caddy: {image: "caddy:2.9"}}
-- a/stack.yaml --
name: a
services:
  web:
    image: app:1
    x-ingress: {host: app, port: 80}
    deploy:
      labels:
        caddy_1: own.in.example.com
        caddy_1.encodee: gzip
`)
	web := stack.ServiceRef{Stack: "a", Service: "web"}
	err := errors.New("unrecognized directive: encodee")
	for name, tt := range map[string]struct {
		refusal stack.Refusal
		want    string
		remedy  string
	}{
		"raw label":     {stack.Refusal{Service: web, Label: "caddy_1.encodee", Err: err}, "a/stack.yaml:9:9: ingress-refuses: the ingress refuses label caddy_1.encodee: unrecognized directive: encodee", "deploy"},
		"derived label": {stack.Refusal{Service: web, Label: "caddy.reverse_proxy", Err: err}, "a/stack.yaml:5:5: ingress-refuses: the ingress refuses label caddy.reverse_proxy: unrecognized directive: encodee", "x-ingress"},
		"whole set":     {stack.Refusal{Service: web, Err: err}, "a/stack.yaml:5:5: ingress-refuses: the ingress refuses the labels of a/web: unrecognized directive: encodee", "x-ingress"},
		"unknown stack": {stack.Refusal{Service: stack.ServiceRef{Stack: "x", Service: "y"}, Err: err}, "cluster.yaml: ingress-refuses: the ingress refuses the labels of x/y: unrecognized directive: encodee", "explain"},
		"nobody":        {stack.Refusal{Err: errors.New("check labels: context canceled")}, "cluster.yaml: ingress-refuses: check labels: context canceled", ""},
	} {
		t.Run(name, func(t *testing.T) {
			found := check.Labels(t.Context(), b, refusing{tt.refusal})
			if len(found) != 1 {
				t.Fatalf("found %v", found)
			}
			if got := found[0].String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if !strings.Contains(found[0].Remedy, tt.remedy) {
				t.Errorf("remedy %q does not speak of %s", found[0].Remedy, tt.remedy)
			}
		})
	}
	if found := check.Labels(t.Context(), b, refusing{}); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

func TestDocker(t *testing.T) {
	files := `
-- a/stack.yaml --
name: a
services:
  web:
    image: app:1
    user: "1000"
    deploy:
      placement: {constraints: [node.role == worker]}
-- b/stack.yaml --
name: b
services: {web: {image: "app:1", volumes: ["data:/data"]}}
volumes:
  data:
    external: true
    driver: nfs
-- c/stack.yaml --
name: c
services: {web: {image: "app:1"}}
`
	c, b := expanded(t, files)
	// Skep writes valid files; these are broken afterwards.
	content := b.Stacks[0].Compose()
	b.Stacks[0].Compose = func() bundle.Compose { return content }
	web := content["services"].(map[string]any)["web"].(map[string]any)
	for _, tt := range []struct {
		name  string
		spoil func()
		want  string
	}{
		{"a volume", func() {}, "b/stack.yaml:4:3"},
		{"a value", func() { web["user"] = 5 }, "a/stack.yaml:5:5"},
		{"a key that Skep adds", func() {
			delete(web, "user")
			web["deploy"].(map[string]any)["placement"].(map[string]any)["color"] = "red"
		}, "a/stack.yaml:7:7"},
		{"a service that Skep adds", func() { content["services"] = map[string]any{"other": map[string]any{"color": "red"}} }, "a/stack.yaml:1:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.spoil()
			var places []string
			for _, p := range check.Docker(b, c) {
				places = append(places, p.Position.String())
				if p.Rule != "docker-refuses" || p.Severity != problem.Error || p.Subject == "" || p.Remedy == "" {
					t.Errorf("%+v", p)
				}
				t.Log(p)
			}
			if !slices.Contains(places, tt.want) {
				t.Errorf("found at %v, want %s", places, tt.want)
			}
		})
	}
}

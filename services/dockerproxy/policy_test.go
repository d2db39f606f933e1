package dockerproxy

import (
	"bufio"
	"errors"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
)

// env reads "NAME=value" lines.
func env(lines ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, line := range lines {
			if value, ok := strings.CutPrefix(line, name+"="); ok {
				return value, true
			}
		}
		return "", false
	}
}

func settings(t testing.TB, lines ...string) Settings {
	t.Helper()
	s, err := FromEnv(env(lines...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func policy(t testing.TB, lines ...string) Policy {
	t.Helper()
	return settings(t, lines...).Policy
}

func TestAllows(t *testing.T) {
	tests := []struct {
		name  string
		env   []string
		yes   []string
		never []string
	}{
		{"nothing set", nil,
			[]string{"GET /_ping", "HEAD /_ping", "GET /version", "GET /v1.41/version", "GET /events?filters=%7B%7D"},
			[]string{"GET /info", "GET /containers/json", "GET /secrets", "POST /_ping", "OPTIONS /_ping", "get /_ping", "GET /_Ping", "GET /"}},
		{"defaults closed", []string{"EVENTS=0", "PING=0", "VERSION=0"},
			nil,
			[]string{"GET /_ping", "GET /events", "GET /version"}},
		{"containers", []string{"CONTAINERS=1"},
			[]string{"GET /containers/json?all=1", "HEAD /containers/json", "GET /v1.47/containers/web-1/json", "GET /containers/web/top", "GET /containers/web/stats", "GET /containers/web/changes", "GET /containers/archive/json"},
			[]string{"GET /containers/web/archive?path=/", "HEAD /containers/web/archive", "PUT /containers/web/archive", "GET /containers/web/export", "GET /containers/web/logs",
				"GET /containers/web/attach", "GET /containers/web/attach/ws", "POST /containers/web/attach", "POST /containers/web/exec", "POST /containers/create", "DELETE /containers/web",
				"GET /containers/a/b/archive", "GET /containers/a/b/json", "GET /containers", "GET /secrets", "GET /exec/1/json", "GET /images/json"}},
		{"containers and writes", []string{"CONTAINERS=1", "POST=1"},
			[]string{"POST /containers/create", "POST /containers/web/start", "DELETE /containers/web"},
			[]string{"POST /containers/web/exec", "POST /containers/web/attach", "PUT /containers/web/archive", "POST /containers/a/b/exec", "GET /containers/web/logs", "POST /networks/create", "PATCH /containers/web", "CONNECT /containers/json", "POST /containers/web", "POST /containers/web/unheard-of"}},
		{"logs", []string{"CONTAINERS=1", "SERVICES=1", "LOGS=1"},
			[]string{"GET /containers/web/logs?follow=1", "GET /services/web/logs"},
			[]string{"GET /tasks/web/logs", "GET /containers/web/export"}},
		{"a service's logs without LOGS", []string{"SERVICES=1", "TASKS=1"},
			[]string{"GET /services", "GET /services/web", "GET /tasks?filters=%7B%22service%22%3A%5B%22x%22%5D%7D"},
			[]string{"GET /services/web/logs", "GET /tasks/1/logs"}},
		{"parts alone", []string{"ARCHIVE=1", "ATTACH=1", "EXPORT=1", "LOGS=1", "POST=1"},
			nil,
			[]string{"GET /containers/web/archive", "GET /containers/web/export", "POST /containers/web/attach", "GET /containers/web/logs", "GET /images/web/get", "POST /containers/web/exec"}},
		{"files", []string{"CONTAINERS=1", "IMAGES=1", "ARCHIVE=1", "EXPORT=1"},
			[]string{"GET /containers/web/archive?path=/etc", "HEAD /containers/web/archive", "GET /containers/web/export", "GET /images/get?names=a", "GET /images/ghcr.io/a/b:1/get"},
			[]string{"PUT /containers/web/archive", "POST /containers/web/copy", "GET /containers/web/logs", "GET /containers/web/attach/ws"}},
		{"processes", []string{"CONTAINERS=1", "EXEC=1", "POST=1"},
			[]string{"POST /containers/web/exec", "POST /exec/1/start", "POST /exec/1/resize", "GET /exec/1/json"},
			[]string{"POST /containers/web/attach", "GET /containers/web/attach/ws"}},
		{"attachment", []string{"CONTAINERS=1", "ATTACH=1"},
			[]string{"GET /containers/web/attach/ws"},
			[]string{"POST /containers/web/attach", "POST /containers/web/exec"}},
		{"stopping and starting", []string{"POST=1", "ALLOW_START=1"},
			[]string{"POST /containers/web/start"},
			[]string{"POST /containers/web/stop", "POST /containers/web/restart", "POST /containers/web/startle", "GET /containers/json"}},
		{"restarting", []string{"POST=1", "ALLOW_RESTARTS=1"},
			[]string{"POST /containers/web/stop", "POST /containers/web/restart", "POST /containers/web/kill"},
			[]string{"POST /containers/web/start"}},
		{"restarting without POST", []string{"ALLOW_RESTARTS=1", "ALLOW_START=1", "ALLOW_STOP=1"},
			nil,
			[]string{"POST /containers/web/stop", "POST /containers/web/restart", "POST /containers/web/kill", "POST /containers/web/start"}},
		{"names with slashes", []string{"IMAGES=1", "DISTRIBUTION=1"},
			[]string{"GET /images/json", "GET /images/ghcr.io/org/app:1.2@sha256:00ff/json", "GET /images/app%3A1/json", "GET /distribution/ghcr.io/org/app/json"},
			[]string{"GET /images/a%2Fb/json", "GET /images/a/b/get", "GET /images/a/b"}},
		{"single endpoints", []string{"SERVICES=1", "ALLOW=POST /services/{id}/update, DELETE /containers/{id},\nGET /nodes\n"},
			[]string{"POST /services/web/update?version=3", "POST /v1.41/services/web/update", "DELETE /containers/web", "GET /services", "GET /nodes"},
			[]string{"POST /services/create", "POST /services/web", "POST /services/web/update/x", "PUT /services/web/update", "DELETE /services/web", "GET /containers/json", "GET /nodes/1"}},
		{"a single object", []string{"ALLOW=POST /services/web/update, POST /images/ghcr.io/org/app/tag"},
			[]string{"POST /services/web/update", "POST /images/ghcr.io/org/app/tag"},
			[]string{"POST /services/web2/update", "POST /services/we/update", "POST /images/org/app/tag", "POST /images/tag"}},
		{"a part by its name", []string{"ALLOW=POST /containers/{id}/exec, GET /tasks/{id}/logs, GET /images/{name}/get"},
			[]string{"POST /containers/web/exec", "GET /tasks/web/logs", "GET /images/a/b/get"},
			[]string{"POST /exec/web/start", "GET /services/web/logs", "POST /containers/web/attach"}},
		{"a spelling that could be another path", []string{"CONTAINERS=1", "INFO=1"},
			[]string{"GET /%69nfo"},
			[]string{"GET //containers/json", "GET /containers//json", "GET /containers/json/", "GET /containers/./json", "GET /containers/x/../json", "GET /containers/%2e%2e/secrets",
				"GET /containers%2Fjson", "GET /containers%2fjson", "GET /containers%5Cjson", `GET /containers\json`, "GET /containers/%252e/json", "GET /containers/%00/json", "GET /containers/%zz/json",
				"GET /v1.41", "GET /v1.41/", "GET /v1.41/v1.41/info", "GET /v1/info", "GET /v1.4111/info", "GET /v9.41/info", "GET /V1.41/info", "GET http://docker/info", "GET info", "GET *", "GET docker:80",
				"GET /info#x", "GET /info;x", "GET ", "GET ?x", "GET /info%20", "GET /info%0a", "GET /inf\u00f6"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := policy(t, test.env...)
			for _, request := range test.yes {
				method, uri, _ := strings.Cut(request, " ")
				if err := p.Allows(method, uri); err != nil {
					t.Errorf("%s: %v", request, err)
				}
			}
			for _, request := range test.never {
				method, uri, _ := strings.Cut(request, " ")
				if err := p.Allows(method, uri); !errors.Is(err, ErrRefused) {
					t.Errorf("%s: got %v, want a refusal", request, err)
				}
			}
		})
	}
}

func TestFromEnvRefuses(t *testing.T) {
	for _, line := range []string{
		"CONTAINERS=true", "POST=yes", "LOGS= 1", "ENV_VALUES=on", "DISABLE_IPV6=2", "LOG_LEVEL=loud", "LEARN=yes",
		"ALLOW=/services", "ALLOW=POST services", "ALLOW=PATCH /services/{id}", "ALLOW=HEAD /services", "ALLOW=POST /services//update", "ALLOW=POST /{any}/x",
		"ALLOW=POST /service/{id}/update", "ALLOW=POST /services/../x", "ALLOW=POST /services/{}/update", "ALLOW=POST /containers/{id}/{action}", "ALLOW=GET /images/a/{x}/json", "ALLOW=POST /services/{id}/*",
		"SELECTOR==x", "SELECTOR=a=", "SELECTOR=a=1,a=2", "SELECTOR=a=1,", "SELECTOR=name=web",
	} {
		if _, err := FromEnv(env(line)); err == nil {
			t.Errorf("%s: no error", line)
		}
	}
	_, err := FromEnv(env("CONTAINERS=on", "ALLOW=x"))
	if err == nil || !strings.Contains(err.Error(), "CONTAINERS") || !strings.Contains(err.Error(), "ALLOW") {
		t.Errorf("got %v, want both problems", err)
	}
}

func TestZeroPolicyRefuses(t *testing.T) {
	if err := (Policy{}).Allows("GET", "/_ping"); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v, want a refusal", err)
	}
}

// FuzzPolicy holds that nothing which is denied in its plain spelling gets
// through in another: whatever passes, passes too once every reader's liberties
// have been taken with it.
func FuzzPolicy(f *testing.F) {
	for _, seed := range []string{
		"GET /containers/json", "GET /v1.41/containers/web/json", "GET /containers/%61rchive/archive", "GET /containers/x%2f..%2fsecrets",
		"GET /containers/x/..;/../secrets", "GET //secrets", "GET /./secrets", "GET /%2e/secrets", "GET /containers/x/%252e%252e/%252e%252e/secrets",
		"POST /services/web/update", "POST /services/web/update/../../x/update", "GET http://x/secrets", "GET /v1.41/v1.41/secrets", "GET /images/a/b:1/json?x=/../y", "GET /containers\\..\\secrets",
	} {
		method, uri, _ := strings.Cut(seed, " ")
		f.Add(method, uri)
	}
	policies := []Policy{
		policy(f, "CONTAINERS=1", "IMAGES=1"),
		policy(f, "CONTAINERS=1", "POST=1", "LOGS=1"),
		policy(f, "ALLOW=POST /services/{id}/update"),
		policy(f, "CONTAINERS=1", "EXEC=1", "ARCHIVE=1", "POST=1", "ALLOW_STOP=1"),
	}
	f.Fuzz(func(t *testing.T, method, uri string) {
		for _, p := range policies {
			if p.Allows(method, uri) != nil {
				continue
			}
			raw, _, _ := strings.Cut(uri, "?")
			for _, reading := range readings(raw) {
				if err := p.Allows(method, reading); err != nil {
					t.Errorf("%s %q passes, but not as %q: %v", method, uri, reading, err)
				}
			}
			// A Go server, as dockerd is one, must see a plain path.
			request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + uri + " HTTP/1.1\r\nHost: x\r\n\r\n")))
			if err != nil {
				continue // the server refuses it before the policy
			}
			if path.Clean(request.URL.Path) != request.URL.Path {
				t.Errorf("%s %q passes, and is read as %q", method, uri, request.URL.Path)
			}
			target, err := parseTarget(uri)
			if err != nil || target.path() != request.URL.Path {
				t.Errorf("%q: sent on as %q (%v), read as %q", uri, target.path(), err, request.URL.Path)
			}
		}
	})
}

// readings are the plain spellings that readers of different care would make
// of a path.
func readings(raw string) []string {
	out := []string{path.Clean(raw), path.Clean(strings.ReplaceAll(raw, `\`, "/"))}
	for range 3 { // decoded again and again
		decoded, err := url.PathUnescape(raw)
		if err != nil {
			break
		}
		raw = decoded
		out = append(out, path.Clean(raw), path.Clean(strings.ReplaceAll(raw, `\`, "/")), path.Clean(strings.Split(raw, ";")[0]), path.Clean(strings.Split(raw, "#")[0]), path.Clean(strings.Split(raw, "\x00")[0]))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

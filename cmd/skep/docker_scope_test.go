package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"skep/generator/spec"
	"skep/services/dockerproxy"
)

// A service that sees its own stack alone may ask for just what its docker
// proxy can narrow to a stack: the check and the proxy keep lists of their own.
func TestScopeOfTheDockerAPI(t *testing.T) {
	var writes, sections []string
	refused := map[string]bool{} // by the proxy
	all := map[string]string{"POST": "1"}
	for _, v := range dockerproxy.Variables {
		if v.Group == dockerproxy.Sections || v.Group == dockerproxy.Parts {
			all[v.Name] = "1"
		}
	}
	passing := passed(t, all)
	for _, endpoint := range dockerproxy.Endpoints() {
		if !strings.HasPrefix(endpoint, http.MethodGet+" ") {
			write := strings.ReplaceAll(endpoint, "...}", "}") // as stack files say it
			writes = append(writes, write)
			refused[write] = !passing[endpoint]
		}
	}
	for _, v := range dockerproxy.Variables {
		section := strings.ToLower(v.Name)
		if !slices.Contains(spec.DockerSections, section) || all[v.Name] == "" {
			continue
		}
		// What is closed with it was opened by it.
		others := maps.Clone(all)
		others[v.Name], others["POST"] = "0", "0"
		without := passed(t, others)
		sections = append(sections, section)
		refused[section] = !slices.ContainsFunc(dockerproxy.Endpoints(), func(e string) bool {
			return strings.HasPrefix(e, http.MethodGet+" ") && passing[e] && !without[e]
		})
	}
	if len(writes) < 50 || len(sections) < 25 {
		t.Fatalf("there are %d writes and %d sections", len(writes), len(sections))
	}

	reported := scopeProblems(t, sections, writes)
	for _, name := range append(sections, writes...) {
		if reported[name] != refused[name] {
			t.Errorf("%s: the check reports it: %t, the proxy refuses it: %t", name, reported[name], refused[name])
		}
	}
}

// passed are the endpoints that a proxy for one stack lets through, or would if
// it had an engine.
func passed(t *testing.T, env map[string]string) map[string]bool {
	t.Helper()
	settings, err := dockerproxy.FromEnv(func(name string) (string, bool) {
		switch name {
		case "SELECTOR":
			return "com.docker.stack.namespace=app", true
		case "SOCKET_PATH":
			return filepath.Join(t.TempDir(), "none"), true
		case "EVENTS", "PING", "VERSION": // open by default
			if env[name] == "" {
				return "0", true
			}
		}
		value, ok := env[name]
		return value, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	proxy := dockerproxy.New(settings, slog.New(slog.DiscardHandler))
	out := map[string]bool{}
	for _, endpoint := range dockerproxy.Endpoints() {
		method, path, _ := strings.Cut(endpoint, " ")
		segments := strings.Split(path, "/")
		for i, segment := range segments {
			if strings.HasPrefix(segment, "{") {
				segments[i] = "any"
			}
		}
		answer := httptest.NewRecorder()
		proxy.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), method, strings.Join(segments, "/"), http.NoBody))
		out[endpoint] = answer.Code != http.StatusForbidden
	}
	return out
}

// scopeProblems are the sections and endpoints that `skep check` reports.
func scopeProblems(t *testing.T, sections, writes []string) map[string]bool {
	t.Helper()
	dir := t.TempDir()
	read, err := json.Marshal(sections)
	if err != nil {
		t.Fatal(err)
	}
	write, err := json.Marshal(writes)
	if err != nil {
		t.Fatal(err)
	}
	writeFiles(t, dir, map[string]string{
		"cluster.yaml": "name: test\n",
		"app/stack.yaml": fmt.Sprintf("name: app\nservices:\n  web:\n    image: web:1\n    mem_limit: 64m\n    x-docker-api: {scope: stack, read: %s, write: %s}\n",
			read, write),
	})
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"skep", "check", "-C", dir, "--json"}, nil, &out, &errs); code != exitProblems {
		t.Fatalf("exit code %d\n%s%s", code, &out, &errs)
	}
	var report struct {
		Problems []struct{ Rule, Message string }
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, p := range report.Problems {
		switch words := strings.Fields(p.Message); p.Rule {
		case "docker-scope":
			if words[0] == "section" {
				found[words[1]] = true
			} else {
				found[words[0]+" "+words[1]] = true
			}
		case "missing-healthcheck":
		default:
			t.Errorf("%s: %s", p.Rule, p.Message)
		}
	}
	return found
}

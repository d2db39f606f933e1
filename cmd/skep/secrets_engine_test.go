package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// object is something that an engine keeps, as its API shows it.
type object = map[string]any

// fakeEngine is a manager of one node that takes everything and runs every
// task at once. It is for what may not be said about secrets, and for errors
// that say too much; what a Swarm does in truth is tested on one.
type fakeEngine struct {
	mu      sync.Mutex
	refuses func(r *http.Request, body []byte) string
	crashes bool // all tasks have ended
	hides   bool // the labels of secrets, as a docker proxy may
	clock   int
	objects map[string]map[string]object // by kind, then id
	values  []string                     // of secrets
	sent    strings.Builder              // all bodies but those of secrets
}

func startFakeEngine(t *testing.T) *fakeEngine {
	t.Helper()
	e := &fakeEngine{objects: map[string]map[string]object{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.47") })
	mux.HandleFunc("GET /{version}/events", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("GET /{version}/{kind}", func(w http.ResponseWriter, r *http.Request) { respond(w, http.StatusOK, e.list(r.PathValue("kind"))) })
	mux.HandleFunc("POST /{version}/{kind}/create", e.create)
	mux.HandleFunc("POST /{version}/{kind}/{id}/update", e.update)
	mux.HandleFunc("DELETE /{version}/{kind}/{id}", func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.objects[r.PathValue("kind")], r.PathValue("id"))
		w.WriteHeader(http.StatusNoContent)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Setenv("DOCKER_HOST", "tcp://"+strings.TrimPrefix(server.URL, "http://"))
	return e
}

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func (e *fakeEngine) list(kind string) []object {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := []object{}
	switch kind {
	case "nodes":
		return append(out, object{"ID": "n1", "Spec": object{"Role": "manager", "Availability": "active"}, "Description": object{"Hostname": "node1"}, "Status": object{"State": "ready"}})
	case "tasks":
		for id, s := range e.objects["services"] {
			if e.crashes {
				for i := range 3 {
					out = append(out, object{
						"ID": fmt.Sprint(id, "-", i), "ServiceID": id, "Slot": 1, "NodeID": "n1", "Spec": s["Spec"].(object)["TaskTemplate"],
						"DesiredState": "shutdown", "Status": object{"State": "failed", "ContainerStatus": object{"ContainerID": "c", "ExitCode": 3}},
					})
				}
				continue
			}
			out = append(out, object{
				"ID": id + "-1", "ServiceID": id, "Slot": 1, "NodeID": "n1", "Spec": s["Spec"].(object)["TaskTemplate"],
				"DesiredState": "running", "Status": object{"State": "running"},
			})
		}
		return out
	}
	for _, id := range slices.Sorted(maps.Keys(e.objects[kind])) {
		shown := maps.Clone(e.objects[kind][id]) // an update changes the object
		if spec, ok := shown["Spec"].(object); ok && kind == "secrets" && e.hides {
			spec = maps.Clone(spec)
			spec["Labels"] = object{"skep.cluster": "test", "skep.secret.reference": "[redacted]"}
			shown["Spec"] = spec
		}
		out = append(out, shown)
	}
	return out
}

// accept reads what a request wants, unless it is refused.
func (e *fakeEngine) accept(w http.ResponseWriter, r *http.Request) (object, bool) {
	body, err := io.ReadAll(r.Body)
	if err == nil && e.refuses != nil {
		if why := e.refuses(r, body); why != "" {
			respond(w, http.StatusBadRequest, object{"message": why})
			return nil, false
		}
	}
	var spec object
	if err == nil {
		err = json.Unmarshal(body, &spec)
	}
	if err != nil {
		respond(w, http.StatusBadRequest, object{"message": "no JSON"})
		return nil, false
	}
	if r.PathValue("kind") == "secrets" {
		if data, err := base64.StdEncoding.DecodeString(fmt.Sprint(spec["Data"])); err == nil {
			e.values = append(e.values, string(data))
		}
		delete(spec, "Data")
		body, _ = json.Marshal(spec)
	}
	e.sent.Write(body)
	return spec, true
}

func (e *fakeEngine) create(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	spec, ok := e.accept(w, r)
	if !ok {
		return
	}
	kind := r.PathValue("kind")
	e.clock++
	id := fmt.Sprintf("%s%d", kind, e.clock)
	made := object{"ID": id, "Version": object{"Index": e.clock}, "CreatedAt": time.Unix(int64(e.clock), 0).UTC(), "Spec": spec}
	if kind == "networks" {
		id = fmt.Sprint(spec["Name"]) // which is what services call it
		made = spec
		made["Id"], made["Scope"] = id, "swarm"
	}
	if e.objects[kind] == nil {
		e.objects[kind] = map[string]object{}
	}
	e.objects[kind][id] = made
	respond(w, http.StatusCreated, object{"ID": id, "Id": id})
}

func (e *fakeEngine) update(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if spec, ok := e.accept(w, r); ok {
		e.clock++
		old := e.objects[r.PathValue("kind")][r.PathValue("id")]
		old["Spec"], old["Version"] = spec, object{"Index": e.clock}
		respond(w, http.StatusOK, object{})
	}
}

// refuse makes why the engine's answer to what is to be created or updated, or
// nothing where it returns nothing.
func (e *fakeEngine) refuse(why func(r *http.Request, body []byte) string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refuses = why
}

// crash has all tasks end, or run again.
func (e *fakeEngine) crash(now bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.crashes = now
}

// hide hides the labels of secrets.
func (e *fakeEngine) hide() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hides = true
}

// secretValues are what secrets were made with.
func (e *fakeEngine) secretValues() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.values)
}

// sentText is all that was created or updated but the values of secrets.
func (e *fakeEngine) sentText() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sent.String()
}

// names are the secrets that are there.
func (e *fakeEngine) names() []string {
	var out []string
	for _, s := range e.list("secrets") {
		out = append(out, fmt.Sprint(s["Spec"].(object)["Name"]))
	}
	slices.Sort(out)
	return out
}

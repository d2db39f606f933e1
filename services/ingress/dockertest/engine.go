// Package dockertest is a fake of the part of the Docker API that the ingress
// reads, for tests and benchmarks.
package dockertest

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"

	"skep/internal/porttest"
)

// Network is the network that services share with the ingress.
const Network = "proxy_network"

// Engine is a Swarm of one manager. Its address survives Stop and Start, as a
// docker proxy's does.
type Engine struct {
	mu       sync.Mutex
	services map[string]swarm.Service
	tasks    map[string]swarm.Task
	configs  []swarm.Config
	boxes    []container.Summary
	version  uint64
	streams  map[chan events.Message]bool
	calls    map[string]int
	address  string
	server   *httptest.Server
	stopped  chan struct{} // closed when the server stops
}

// New starts an engine on a port of loopback, which is its own when it starts
// again.
func New(t testing.TB) *Engine {
	t.Helper()
	e := &Engine{services: map[string]swarm.Service{}, tasks: map[string]swarm.Task{}, streams: map[chan events.Message]bool{}, calls: map[string]int{}, address: porttest.Address(t)}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	return e
}

// Start listens, again after Stop.
func (e *Engine) Start() error {
	listener, err := net.Listen("tcp", e.address)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.stopped = make(chan struct{})
	e.mu.Unlock()
	e.server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: e, ReadHeaderTimeout: time.Minute}}
	e.server.Start()
	return nil
}

// Stop breaks every connection. Streams end first, those too that a client
// opens anew meanwhile: the server waits for its requests.
func (e *Engine) Stop() {
	e.mu.Lock()
	select {
	case <-e.stopped: // before
	default:
		close(e.stopped)
	}
	e.mu.Unlock()
	e.server.CloseClientConnections()
	e.server.Close()
}

// Host is the engine's address, as DOCKER_HOST takes it.
func (e *Engine) Host() string { return "tcp://" + e.address }

// Calls counts the requests for a path since the last call.
func (e *Engine) Calls(path string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.calls[path]
	e.calls[path] = 0
	return n
}

// Service is what a test says of a service.
type Service struct {
	Name    string
	Stack   string
	Labels  map[string]string
	Tasks   []string // addresses on Network
	Created time.Time
}

// Put creates or changes a service and tells who listens. Silent changes of
// tasks are what happens on another node.
func (e *Engine) Put(services ...Service) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range services {
		id := "id-" + s.Name
		before, there := e.services[id]
		e.version++
		var out swarm.Service
		out.ID, out.Spec.Name = id, s.Name
		out.Version.Index = e.version
		out.CreatedAt = s.Created
		if there && s.Created.IsZero() {
			out.CreatedAt = before.CreatedAt
		}
		out.Spec.Labels = map[string]string{}
		if s.Stack != "" {
			out.Spec.Labels["com.docker.stack.namespace"] = s.Stack
		}
		for k, v := range s.Labels {
			out.Spec.Labels[k] = v
		}
		e.services[id] = out
		e.setTasks(id, s.Tasks)
		action := events.ActionCreate
		if there {
			action = events.ActionUpdate
		}
		e.tell(events.Message{Type: events.ServiceEventType, Action: action, Actor: events.Actor{ID: id, Attributes: map[string]string{"name": s.Name}}, Scope: "swarm"})
	}
}

// Remove removes a service.
func (e *Engine) Remove(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := "id-" + name
	delete(e.services, id)
	e.setTasks(id, nil)
	e.tell(events.Message{Type: events.ServiceEventType, Action: events.ActionRemove, Actor: events.Actor{ID: id}, Scope: "swarm"})
}

// MoveTasks gives a service's tasks other addresses without an event, as when
// a task moves between two other nodes.
func (e *Engine) MoveTasks(name string, addresses ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.setTasks("id-"+name, addresses)
}

func (e *Engine) setTasks(id string, addresses []string) {
	for key := range e.tasks {
		if strings.HasPrefix(key, id+".") {
			delete(e.tasks, key)
		}
	}
	for i, address := range addresses {
		e.version++
		task := swarm.Task{ID: fmt.Sprintf("%s.%d.%d", id, i, e.version), ServiceID: id, DesiredState: swarm.TaskStateRunning}
		task.Status.State = swarm.TaskStateRunning
		a := swarm.NetworkAttachment{Addresses: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(address), 24)}}
		a.Network.ID, a.Network.Spec.Name = "net-"+Network, Network
		task.NetworksAttachments = []swarm.NetworkAttachment{a}
		e.tasks[task.ID] = task
	}
}

// PutContainer adds a container of the engine's node.
func (e *Engine) PutContainer(name string, labels map[string]string, address string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := container.Summary{ID: "container-" + name, Names: []string{"/" + name}, Labels: labels, State: "running", Created: 1}
	c.NetworkSettings = &container.NetworkSettingsSummary{Networks: map[string]*network.EndpointSettings{
		Network: {NetworkID: "net-" + Network, IPAddress: netip.MustParseAddr(address)},
	}}
	e.boxes = append(e.boxes, c)
	e.tell(events.Message{Type: events.ContainerEventType, Action: events.ActionStart, Actor: events.Actor{ID: c.ID}, Scope: "local"})
}

// PutConfig adds a config object.
func (e *Engine) PutConfig(name string, labels map[string]string, data string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var c swarm.Config
	c.ID, c.Spec.Name, c.Spec.Labels, c.Spec.Data = "config-"+name, name, labels, []byte(data)
	e.configs = append(e.configs, c)
	e.tell(events.Message{Type: events.ConfigEventType, Action: events.ActionCreate, Actor: events.Actor{ID: c.ID}, Scope: "swarm"})
}

func (e *Engine) tell(m events.Message) {
	for stream := range e.streams {
		select {
		case stream <- m:
		default: // a client that does not read
		}
	}
}

var versionPath = regexp.MustCompile(`^/v1\.\d+`)

func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := versionPath.ReplaceAllString(r.URL.Path, "")
	e.mu.Lock()
	e.calls[path]++
	e.mu.Unlock()
	w.Header().Set("Api-Version", "1.44")
	w.Header().Set("Ostype", "linux")
	if path == "/events" {
		e.stream(w, r)
		return
	}
	var filters map[string]map[string]bool
	if text := r.URL.Query().Get("filters"); text != "" {
		if err := json.Unmarshal([]byte(text), &filters); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	body, ok := e.answer(path, filters)
	if !ok || r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, `{"message":"403 Forbidden"}`, http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(body)
}

func (e *Engine) answer(path string, filters map[string]map[string]bool) ([]byte, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out any
	switch path {
	case "/_ping":
		return []byte("OK"), true
	case "/info":
		out = map[string]any{"ID": "engine", "Swarm": map[string]any{"LocalNodeState": "active", "ControlAvailable": true}}
	case "/networks":
		out = []network.Summary{{Network: network.Network{ID: "net-" + Network, Name: Network, Scope: "swarm", Driver: "overlay"}}}
	case "/configs":
		out = e.configs
	case "/containers/json":
		out = e.boxes
	case "/services":
		out = pick(e.services, filters["id"], func(s swarm.Service) string { return s.ID })
	case "/tasks":
		out = pick(e.tasks, filters["service"], func(t swarm.Task) string { return t.ServiceID })
	default:
		if id, ok := strings.CutPrefix(path, "/configs/"); ok {
			at := slices.IndexFunc(e.configs, func(c swarm.Config) bool { return c.ID == id })
			if at < 0 {
				return nil, false
			}
			out = e.configs[at]
			break
		}
		return nil, false
	}
	text, err := json.Marshal(out)
	return text, err == nil
}

func pick[T any](from map[string]T, ids map[string]bool, id func(T) string) []T {
	out := []T{}
	for _, one := range from {
		if ids == nil || ids[id(one)] {
			out = append(out, one)
		}
	}
	return out
}

func (e *Engine) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	stream := make(chan events.Message, 4096)
	e.mu.Lock()
	e.streams[stream] = true
	stopped := e.stopped
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.streams, stream)
		e.mu.Unlock()
	}()
	flush := http.NewResponseController(w)
	if flush.Flush() != nil {
		return
	}
	encoder := json.NewEncoder(w)
	for {
		select {
		case <-r.Context().Done():
			return
		case <-stopped:
			return
		case m := <-stream:
			if encoder.Encode(m) != nil || flush.Flush() != nil {
				return
			}
		}
	}
}

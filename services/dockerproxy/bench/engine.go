package bench

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
)

// Services is how many services the engine lists.
const Services = 100

// Engine is an engine of Docker that answers from memory.
type Engine struct {
	server *http.Server
	done   chan error
}

// StartEngine answers at a socket.
func StartEngine(socket string) (*Engine, error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	list, err := json.Marshal(services(Services))
	if err != nil {
		l.Close()
		return nil, err
	}
	one, err := json.Marshal(services(1)[0])
	if err != nil {
		l.Close()
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_ping", answer("text/plain", []byte("OK")))
	mux.HandleFunc("GET /version", answer("application/json", []byte(`{"Version":"29.0.0","ApiVersion":"1.52"}`)))
	mux.HandleFunc("GET /services", answer("application/json", list))
	mux.HandleFunc("GET /services/{id}", answer("application/json", one))
	e := &Engine{&http.Server{Handler: mux}, make(chan error, 1)}
	go func() { e.done <- e.server.Serve(l) }()
	return e, nil
}

// Stop ends the engine.
func (e *Engine) Stop() {
	e.server.Close()
	<-e.done
}

func answer(contentType string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	}
}

// services are about as large as those of a real stack.
func services(n int) []map[string]any {
	var out []map[string]any
	for i := range n {
		env := []string{"TZ=Europe/Berlin", "DATABASE_HOST=postgresql", "DATABASE_PASSWORD=correct-horse-battery-staple"}
		for j := range 12 {
			env = append(env, fmt.Sprintf("SETTING_%d=value-%d-%d", j, i, j))
		}
		labels := map[string]string{"com.docker.stack.namespace": "media", "com.docker.stack.image": "registry.example.com/app:1.2.3", "homepage.widget.key": "0123456789abcdef"}
		for j := range 12 {
			labels[fmt.Sprintf("caddy_%d.reverse_proxy", j)] = "{{upstreams 8080}}"
		}
		spec := map[string]any{
			"Name": fmt.Sprintf("media_app%d", i), "Labels": labels,
			"TaskTemplate": map[string]any{"ContainerSpec": map[string]any{"Image": "registry.example.com/app:1.2.3", "Env": env, "Labels": labels}},
			"Mode":         map[string]any{"Replicated": map[string]any{"Replicas": 2}},
		}
		out = append(out, map[string]any{"ID": fmt.Sprintf("%025d", i), "Version": map[string]any{"Index": 1000 + i}, "Spec": spec, "PreviousSpec": spec})
	}
	return out
}

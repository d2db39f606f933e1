package secretdriver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"time"
)

// protocol is what a plugin of Docker's answers with.
// https://docs.docker.com/engine/extend/plugin_api/
const protocol = "application/vnd.docker.plugins.v1.2+json"

// maxRequest bounds a request: labels of a service and a secret.
const maxRequest = 4 << 20

// Handler answers the calls of the secretprovider protocol.
func (d *Driver) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /Plugin.Activate", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, []byte(`{"Implements":["secretprovider"]}`))
	})
	mux.HandleFunc("POST /SecretProvider.GetSecret", d.getSecret)
	return mux
}

func (d *Driver) getSecret(w http.ResponseWriter, r *http.Request) {
	var request Request
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&request); err != nil {
		d.Log.Warn("secret", "outcome", string(Malformed), "error", "the request is no JSON")
		reply(w, failure("the request is no JSON"))
		return
	}
	value, err := d.Get(r.Context(), request)
	if err != nil {
		reply(w, failure(err.Error()))
		return
	}
	defer value.Wipe()
	b, err := value.Bytes()
	if err != nil {
		reply(w, failure(err.Error()))
		return
	}
	body := success(b)
	defer clear(body)
	reply(w, body)
}

// success is built by hand: an encoder would keep the value in its buffers.
// Without DoNotReuse Swarm gives one task's value to others.
func success(value []byte) []byte {
	const before, after = `{"Value":"`, `","DoNotReuse":true}`
	n := base64.StdEncoding.EncodedLen(len(value))
	body := make([]byte, len(before)+n+len(after))
	copy(body, before)
	base64.StdEncoding.Encode(body[len(before):], value)
	copy(body[len(before)+n:], after)
	return body
}

func failure(why string) []byte {
	body, err := json.Marshal(struct {
		Err        string
		DoNotReuse bool
	}{why, true})
	if err != nil {
		return []byte(`{"Err":"failed","DoNotReuse":true}`) // a string always marshals
	}
	return body
}

func reply(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", protocol)
	_, _ = w.Write(body)
}

// Serve answers on a listener until ctx ends, then finishes what it is at.
func (d *Driver) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: d.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.Timeout)
		defer cancel()
		stopped <- server.Shutdown(last)
	})
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

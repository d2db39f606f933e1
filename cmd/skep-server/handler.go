package main

import (
	"net/http"

	"skep/services/controlplane/engine"
	"skep/services/controlplane/store"
)

// handler is everything that is answered on the public address.
func (s *server) handler(db *store.Store, _ engine.Starter) (http.Handler, error) {
	hooks, err := s.webhooks(db)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/api/v1/webhooks/", hooks)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return mux, nil
}

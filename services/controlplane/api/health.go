package api

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"time"

	"skep/services/controlplane"
)

const readyTimeout = 5 * time.Second

// healthz says that the process lives.
func (a *API) healthz(w http.ResponseWriter, _ *http.Request) { a.well(w) }

// readyz says that calls can be answered. What is missing is for the log.
func (a *API) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := errors.Join(a.options.Store.Ping(ctx), a.options.Ready(ctx)); err != nil {
		a.log.WarnContext(r.Context(), "not ready", "error", err)
		writeProblem(w, r, http.StatusServiceUnavailable, "Something that this server needs does not answer.")
		return
	}
	a.well(w)
}

func (a *API) well(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte("{\"status\":\"ok\"}\n")) // the client may be gone
}

// Version is what this server is.
type Version struct {
	Version string `json:"version"`
	Go      string `json:"go"`
}

func (a *API) versionRoutes() {
	register(a, operation{
		id: "version.get", method: http.MethodGet, path: "/version", summary: "Say which version this is", scope: controlplane.ScopeRead,
	}, func(context.Context, *nothing) (*Reply[Version], error) {
		return &Reply[Version]{Body: Version{Version: a.options.Version, Go: runtime.Version()}}, nil
	})
}

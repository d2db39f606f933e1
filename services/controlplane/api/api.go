// Package api is the control plane's HTTP interface: what it takes and answers
// is in the Go types here, and its OpenAPI document is made of them.
//
// A call passes, in this order: the server's own part (an id, the log, the
// headers that every answer has), the router, the token and its scope, the
// request's validation, and the operation. Whatever refuses it answers with a
// problem as RFC 9457 says.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/integration"
)

// Prefix is what all operations begin with.
const Prefix = "/api/v1"

// Registry knows what the integrations of a provider take.
type Registry interface {
	Driver(controlplane.Provider) (integration.Driver, error)
	Check(controlplane.Provider, integration.Settings, integration.Values) error
	Open(controlplane.Provider, integration.Settings, integration.Credentials) (integration.Account, error)
}

var _ Registry = (*integration.Registry)(nil)

// Webhooks takes deliveries, below webhook.Path. Forget says that a source has
// changed.
type Webhooks interface {
	http.Handler
	Forget(controlplane.Provider, controlplane.Name)
}

// Starter hands a run that is stored to the engine. The same run twice is one,
// and no error.
type Starter interface {
	Start(context.Context, controlplane.Run) error
}

// Options are what an API works with. Those before Version are needed.
type Options struct {
	Store    Store
	Registry Registry
	Webhooks Webhooks
	Starter  Starter
	// Ready says whether what the server needs besides the database is there.
	Ready   func(context.Context) error
	Metrics prometheus.Registerer
	Log     *slog.Logger
	Version string

	// Secrets resolves credentials that are op:// references. Nil: none can be.
	Secrets secrets.Source
	// Proxies are trusted to say in X-Forwarded-For who calls. Without them it is
	// whoever connects.
	Proxies []netip.Prefix
	// MaxStreams bounds the clients that follow events or logs; 2000 if 0.
	MaxStreams int
	// Heartbeat is how often a stream that is quiet gives a sign of life, and its
	// token is looked at again; 25 s if 0.
	Heartbeat time.Duration
	Now       func() time.Time // time.Now if nil
}

// API answers calls. Its events flow while Run does.
type API struct {
	options Options
	log     *slog.Logger
	mux     *http.ServeMux
	huma    huma.API
	metrics *metrics
	hub     *hub
	streams chan struct{}
	fails   *limiter
}

var _ http.Handler = (*API)(nil)

const (
	defaultStreams   = 2000
	defaultHeartbeat = 25 * time.Second
)

// New is an error if something is missing, or the metrics are registered
// already.
func New(o Options) (*API, error) {
	if o.Store == nil || o.Registry == nil || o.Webhooks == nil || o.Starter == nil || o.Ready == nil || o.Metrics == nil || o.Log == nil {
		return nil, errors.New("the API needs a store, a registry, webhooks, a starter, a check, metrics and a log")
	}
	if o.MaxStreams == 0 {
		o.MaxStreams = defaultStreams
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = defaultHeartbeat
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, fmt.Errorf("register the API's metrics: %w", err)
	}
	a := &API{
		options: o, log: slog.New(LogHandler(o.Log.Handler())), metrics: m,
		streams: make(chan struct{}, o.MaxStreams), fails: newLimiter(o.Now),
	}
	a.hub = newHub(o.Store, a.log, m)
	if err := a.build(); err != nil {
		return nil, err
	}
	return a, nil
}

// build makes the router. It asks nothing of the options.
func (a *API) build() error {
	a.mux = http.NewServeMux()
	a.huma = humago.New(a.mux, configuration())
	a.huma.UseMiddleware(a.limits, a.authorize, a.plain)
	a.routes()
	// The schema is the library's; finish takes the values out.
	delete(a.huma.OpenAPI().Components.Schemas.Map()["ErrorDetail"].Properties, "value")
	document, err := a.document()
	if err != nil {
		return err
	}
	a.mux.HandleFunc("GET "+Prefix+"/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document) // the client may be gone
	})
	a.mux.HandleFunc("GET /healthz", a.healthz)
	a.mux.HandleFunc("GET /readyz", a.readyz)
	return nil
}

func (a *API) routes() {
	a.integrationRoutes()
	a.sourceRoutes()
	a.projectRoutes()
	a.deliveryRoutes()
	a.runRoutes()
	a.logRoutes()
	a.artefactRoutes()
	a.taskRoutes()
	a.scheduleRoutes()
	a.accessRoutes()
	a.eventRoutes()
	a.versionRoutes()
}

// Run brings events to the clients that follow them, until ctx ends; then it
// ends their streams, so that a server that shuts down need not wait for them.
func (a *API) Run(ctx context.Context) error { return a.hub.run(ctx) }

// Package webhook takes deliveries of providers: POST
// /api/v1/webhooks/{provider}[/{source}]. A delivery is verified over its raw
// bytes before anything parses it, stored, and answered; what follows from it
// is somebody else's work, outside of the request.
package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/services/controlplane"
	"skep/services/controlplane/tracing"
)

// Path is what the handler is mounted at.
const Path = "/api/v1/webhooks/"

// DefaultSource is the source of a URL that names none.
const DefaultSource controlplane.Name = "default"

// Deliveries keeps what was verified.
type Deliveries interface {
	// Add keeps a delivery as controlplane.DeliveryStored. One that the source has
	// by the same Delivery is not kept again: it is not fresh, and id is the first
	// one's.
	Add(context.Context, controlplane.Delivery) (id int64, fresh bool, err error)
}

const (
	// MaxBody is the most that GitHub sends.
	MaxBody = 25 << 20
	// MaxMemory is what all bodies in flight may take together.
	MaxMemory = 256 << 20

	// patience is below the 10 s that GitHub waits for an answer.
	patience = 5 * time.Second
	// arrival is how long a body may take to come in.
	arrival = 10 * time.Second
	// remember is how long a secret that was changed is still taken by replicas
	// that were not told.
	remember = 30 * time.Second
)

// Options are what a Handler works with. All but the last three are needed.
type Options struct {
	Sources    Sources
	Deliveries Deliveries
	Metrics    prometheus.Registerer
	Log        *slog.Logger

	Limits map[controlplane.Provider]int64 // of a body; MaxBody where there is none
	Memory int64                           // MaxMemory if 0
	Now    func() time.Time                // time.Now if nil
}

// Handler is the endpoint.
type Handler struct {
	options Options
	sources *cache
	budget  *budget
	metrics *metrics
}

var _ http.Handler = (*Handler)(nil)

// New is an error if a body does not fit into memory while it grows, or if the
// metrics are registered already.
func New(o Options) (*Handler, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Memory == 0 {
		o.Memory = MaxMemory
	}
	h := &Handler{options: o, sources: newCache(o.Sources, remember, o.Now), budget: newBudget(o.Memory)}
	for _, p := range controlplane.Providers {
		if l := h.limit(p); l < 1 || 2*l > o.Memory {
			return nil, fmt.Errorf("bodies of %s may have %d bytes: more than 0, and at most half of the %d for all", p, l, o.Memory)
		}
	}
	var err error
	h.metrics, err = newMetrics(o.Metrics)
	return h, err
}

// Forget makes the next delivery ask for its source anew: call it where a
// source was changed or removed.
func (h *Handler) Forget(p controlplane.Provider, n controlplane.Name) { h.sources.forget(p, n) }

// request is what is learnt of one on its way, for the log.
type request struct {
	provider controlplane.Provider
	source   controlplane.Name
	event    string
	delivery controlplane.DeliveryID
	bytes    int
	id       int64
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := h.options.Now()
	var seen request
	done, refused := h.take(w, r, &seen)
	status := http.StatusOK
	if refused != nil {
		done, status = refused.outcome, refused.status
		refused.write(w)
	} else {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(struct { // the provider may be gone
			ID        int64 `json:"id"`
			Duplicate bool  `json:"duplicate"`
		}{seen.id, done == duplicate})
	}
	took := h.options.Now().Sub(start)
	h.metrics.count(seen.provider, done, took)

	level := slog.LevelInfo
	attributes := []slog.Attr{
		slog.String("outcome", string(done)), slog.Int("status", status), slog.String("provider", string(seen.provider)),
		slog.String("source", string(seen.source)), slog.String("event", seen.event), slog.String("delivery", string(seen.delivery)),
		slog.Int64("id", seen.id), slog.Int("bytes", seen.bytes), slog.Duration("took", took),
	}
	if refused != nil {
		level = slog.LevelWarn
		if refused.cause != nil {
			attributes = append(attributes, slog.String("error", refused.cause.Error()))
		}
	}
	h.options.Log.LogAttrs(r.Context(), level, "webhook", attributes...)
}

// take does the work in the order of its cost: nothing is read before the
// headers fit, and nothing parsed before the body is verified.
func (h *Handler) take(w http.ResponseWriter, r *http.Request, seen *request) (outcome, *refusal) {
	refuse := func(f refusal) (outcome, *refusal) { return f.outcome, &f }
	provider, source, ok := route(r)
	if !ok {
		return refuse(refuseUnknown)
	}
	seen.provider, seen.source = provider, source
	limit := h.limit(provider)
	if f, ok := head(r, limit); !ok {
		return refuse(f)
	}
	from, err := h.sources.get(r.Context(), provider, source)
	if err != nil {
		return refuse(refuseAway.because(err))
	}

	// A recorder of a test has no deadlines, and whoever sends slowly is then
	// the server's ReadTimeout's.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(arrival))
	body, release, err := h.budget.read(w, r, limit)
	defer release()
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, errFull):
		return refuse(refuseFull)
	case errors.As(err, &large):
		return refuse(refuseSize)
	case err != nil:
		return refuse(refuseBody.because(err))
	}
	seen.bytes = len(body)

	now := h.options.Now()
	verified := from.verify(r.Header, body, now)
	switch {
	case from.id == 0:
		return refuse(refuseUnknown)
	case !verified:
		return refuse(refuseSignature.because(from.fault))
	}

	if seen.event, seen.delivery, err = identify(provider, r.Header, body); err != nil {
		return refuse(refuseDelivery.because(err))
	}
	// A sender that is gone by now is served all the same: it would send again.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), patience)
	defer cancel()
	id, fresh, err := h.options.Deliveries.Add(ctx, controlplane.Delivery{
		Source: from.id, Provider: provider, Delivery: seen.delivery, Event: seen.event,
		Headers: keep(r.Header), Body: body, Received: now, State: controlplane.DeliveryStored,
		Trace: tracing.Parent(ctx),
	})
	if err != nil {
		return refuse(refuseAway.because(err))
	}
	seen.id = id
	if !fresh {
		return duplicate, nil
	}
	return stored, nil
}

func (h *Handler) limit(p controlplane.Provider) int64 {
	if l, ok := h.options.Limits[p]; ok {
		return l
	}
	return MaxBody
}

// route reads the path as it was sent: one that has to be decoded or cleaned
// names no source.
func route(r *http.Request) (controlplane.Provider, controlplane.Name, bool) {
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), Path)
	if !ok {
		return "", "", false
	}
	first, second, named := strings.Cut(rest, "/")
	provider, err := controlplane.ParseProvider(first)
	if err != nil {
		return "", "", false
	}
	if !named {
		return provider, DefaultSource, true
	}
	source, err := controlplane.ParseName(second)
	return provider, source, err == nil
}

// head says whether the request is worth reading.
func head(r *http.Request, limit int64) (refusal, bool) {
	if r.Method != http.MethodPost {
		return refuseMethod, false
	}
	for _, name := range once {
		if len(r.Header.Values(name)) > 1 {
			return refuseTwice, false
		}
	}
	if len(r.Header.Values("Content-Encoding")) > 0 {
		return refuseEncoding, false
	}
	kind, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return refuseType, false
	}
	for name, value := range parameters {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return refuseType, false
		}
	}
	if r.ContentLength > limit {
		return refuseSize, false
	}
	return refusal{}, true
}

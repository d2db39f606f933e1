package api

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

// Delivery is a webhook that was verified.
type Delivery struct {
	ID         int64                      `json:"id"`
	Source     string                     `json:"source" doc:"provider/name"`
	Delivery   controlplane.DeliveryID    `json:"delivery" doc:"The provider's own id of it"`
	Event      string                     `json:"event" doc:"The provider's word"`
	Received   time.Time                  `json:"received"`
	State      controlplane.DeliveryState `json:"state" enum:"stored,dispatched,ignored,failed"`
	Attempts   int                        `json:"attempts"`
	Error      string                     `json:"error,omitempty"`
	Run        controlplane.RunID         `json:"run,omitempty"`
	Dispatched *time.Time                 `json:"dispatched,omitempty"`
}

// FullDelivery is a delivery as it came in.
type FullDelivery struct {
	Delivery
	Headers  map[string]string `json:"headers" doc:"Those that matter"`
	Encoding string            `json:"encoding" enum:"text,base64" doc:"Of the body: text if it is UTF-8"`
	Body     string            `json:"body"`
}

// ByID is the path of a delivery.
type ByID struct {
	ID int64 `path:"id" minimum:"1"`
}

func showDelivery(d controlplane.Delivery, sources map[int64]string) Delivery {
	return Delivery{
		ID: d.ID, Source: sources[d.Source], Delivery: d.Delivery, Event: d.Event, Received: d.Received.UTC(), State: d.State,
		Attempts: d.Attempts, Error: d.Error, Run: d.Run, Dispatched: timestamp(d.Dispatched),
	}
}

// sourceNames leads from a source's number to what people call it.
func (a *API) sourceNames(ctx context.Context) (map[int64]string, error) {
	found, err := a.options.Store.ListSources(ctx)
	if err != nil {
		return nil, err
	}
	names := make(map[int64]string, len(found))
	for _, s := range found {
		names[s.ID] = sourceKey(s)
	}
	return names, nil
}

func (a *API) deliveryRoutes() {
	const one = "/deliveries/{id}"
	register(a, operation{
		id: "delivery.list", method: http.MethodGet, path: "/deliveries", summary: "List deliveries, the newest first", scope: controlplane.ScopeRead,
	}, a.listDeliveries)
	register(a, operation{
		id: "delivery.get", method: http.MethodGet, path: one, summary: "Show a delivery with its body", scope: controlplane.ScopeRead,
	}, func(ctx context.Context, in *ByID) (*Reply[FullDelivery], error) {
		names, err := a.sourceNames(ctx)
		if err != nil {
			return nil, err
		}
		d, err := a.options.Store.Delivery(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		full := FullDelivery{Delivery: showDelivery(d, names), Headers: d.Headers, Encoding: "text", Body: string(d.Body)}
		if !utf8.Valid(d.Body) {
			full.Encoding, full.Body = "base64", base64.StdEncoding.EncodeToString(d.Body)
		}
		return &Reply[FullDelivery]{Body: full}, nil
	})
	register(a, operation{
		id: "delivery.redeliver", method: http.MethodPost, path: one + "/redeliver", summary: "Dispatch a delivery again",
		scope: controlplane.ScopeDeploy, status: http.StatusAccepted,
	}, func(ctx context.Context, in *ByID) (*nothing, error) {
		return done(a.options.Store.Redeliver(ctx, in.ID))
	})
}

func (a *API) listDeliveries(ctx context.Context, in *struct {
	Paging
	Source string                     `query:"source" maxLength:"100" doc:"provider/name"`
	State  controlplane.DeliveryState `query:"state" enum:"stored,dispatched,ignored,failed"`
}) (*Reply[Page[Delivery]], error) {
	list := filters("deliveries", in.Source, string(in.State))
	before, err := in.number(list)
	if err != nil {
		return nil, err
	}
	names, err := a.sourceNames(ctx)
	if err != nil {
		return nil, err
	}
	filter := store.DeliveryFilter{State: in.State}
	for id, name := range names {
		if in.Source == name {
			filter.Source = id
		}
	}
	if in.Source != "" && filter.Source == 0 {
		return nil, fmt.Errorf("source %q: %w", in.Source, controlplane.ErrNotFound)
	}
	found, next, err := a.options.Store.ListDeliveries(ctx, filter, store.Page{Before: before, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	show := func(d controlplane.Delivery) Delivery { return showDelivery(d, names) }
	return &Reply[Page[Delivery]]{Body: numbered(list, found, next, show)}, nil
}

package route

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Routes are what a site does with a request, as Caddy's JSON.
type Routes struct {
	Primary json.RawMessage `json:"routes,omitempty"`
	Errors  json.RawMessage `json:"errors,omitempty"`
}

// version is a site's routes, provisioned. Whoever holds a reference keeps it
// from being cleaned up.
type version struct {
	routes caddyhttp.RouteList
	errors caddyhttp.RouteList
	refs   atomic.Int64
	cancel context.CancelFunc
	done   chan struct{} // closed when it is cleaned up
}

// provision sets routes up in a context of their own below ctx. That context
// outlives ctx: a stream of a site goes on when Caddy's configuration changes.
func provision(ctx caddy.Context, r Routes) (v *version, err error) {
	v = &version{done: make(chan struct{})}
	if err := decode(r.Primary, &v.routes); err != nil {
		return nil, err
	}
	if err := decode(r.Errors, &v.errors); err != nil {
		return nil, err
	}
	ctx.Context = context.WithoutCancel(ctx.Context)
	own, cancel := caddy.NewContext(ctx)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in Caddy: %v", p)
		}
		if err != nil {
			cancel()
		}
	}()
	if err := v.routes.Provision(own); err != nil {
		return nil, err
	}
	if err := v.errors.Provision(own); err != nil {
		return nil, err
	}
	v.cancel = sync.OnceFunc(cancel)
	v.refs.Store(1) // the table's
	return v, nil
}

func decode(text json.RawMessage, into *caddyhttp.RouteList) error {
	if len(text) == 0 {
		return nil
	}
	return caddy.StrictUnmarshalJSON(text, into)
}

// release gives a reference back; the last one cleans up.
func (v *version) release() {
	if v.refs.Add(-1) == 0 {
		v.cancel()
		close(v.done)
	}
}

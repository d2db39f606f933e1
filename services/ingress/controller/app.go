package controller

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"

	"skep/services/ingress/route"
)

func init() { caddy.RegisterModule(App{}) }

// App ties a controller to Caddy's configurations: the controller outlives
// each one of those that it loads itself.
type App struct {
	Settings

	ctx        caddy.Context
	key        string
	controller *Controller
}

// running are the controllers of this process, by their settings.
var running = caddy.NewUsagePool()

// loader is the controller that loads a configuration right now.
var loader atomic.Pointer[Controller]

// CaddyModule says what Caddy calls it.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "skep", New: func() caddy.Module { return new(App) }}
}

// Provision finds the controller of these settings or makes one.
func (a *App) Provision(ctx caddy.Context) error {
	if c := loader.Load(); c != nil && c.stopped.Load() {
		return errors.New("the ingress's controller was stopped")
	}
	a.ctx, a.key = ctx, string(a.json())
	value, _, err := running.LoadOrNew(a.key, func() (caddy.Destructor, error) {
		return newController(a.Settings)
	})
	if err != nil {
		return fmt.Errorf("ingress: %w", err)
	}
	a.controller = value.(*Controller)
	return nil
}

// Start serves the sites from this configuration on.
func (a *App) Start() error {
	failed := route.Sites.Activate(a.ctx)
	return a.controller.activated(a.ctx, failed)
}

// Stop has nothing to do: sites are served until the next configuration's are.
func (a *App) Stop() error { return nil }

// Cleanup gives the controller up; the last one ends it.
func (a *App) Cleanup() error {
	if a.controller == nil {
		return nil
	}
	_, err := running.Delete(a.key)
	if loader.Load() == nil {
		// Nobody is about to serve the sites from another configuration.
		route.Sites.Deactivate(a.ctx)
	}
	return err
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)

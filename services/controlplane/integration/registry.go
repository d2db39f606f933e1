package integration

import (
	"fmt"
	"maps"
	"slices"

	"skep/services/controlplane"
)

// Registry has the drivers that a binary links.
type Registry struct {
	drivers map[controlplane.Provider]Driver
	options Options
}

// NewRegistry takes one driver a provider.
func NewRegistry(options Options, drivers ...Driver) *Registry {
	r := &Registry{drivers: make(map[controlplane.Provider]Driver, len(drivers)), options: options}
	for _, d := range drivers {
		r.drivers[d.Provider] = d
	}
	return r
}

// Providers are those that have a driver, sorted.
func (r *Registry) Providers() []controlplane.Provider { return slices.Sorted(maps.Keys(r.drivers)) }

// Driver is controlplane.ErrNotFound for a provider without one.
func (r *Registry) Driver(p controlplane.Provider) (Driver, error) {
	d, ok := r.drivers[p]
	if !ok {
		return Driver{}, fmt.Errorf("%w: %s takes no credentials; %v do", controlplane.ErrNotFound, p, r.Providers())
	}
	return d, nil
}

// Check holds settings and credentials to the driver's fields. The error is
// Problems, all of them at once.
func (r *Registry) Check(p controlplane.Provider, settings Settings, values Values) error {
	d, err := r.Driver(p)
	if err != nil {
		return err
	}
	return d.check(settings, values, r.options)
}

// Open makes a client for an integration; it asks nothing yet. A client keeps
// short-lived tokens and what it knows of rate limits: keep it for as long as
// the integration has the same version.
func (r *Registry) Open(p controlplane.Provider, settings Settings, credentials Credentials) (Account, error) {
	d, err := r.Driver(p)
	if err != nil {
		return nil, err
	}
	full := Settings{}
	for _, f := range d.Fields {
		if !f.Secret && f.Default != "" {
			full[f.Name] = f.Default
		}
	}
	for name, value := range settings {
		if value != "" {
			full[name] = value
		}
	}
	account, err := d.Open(full, credentials, r.options)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", p, err)
	}
	return account, nil
}

// Forge is Open for a provider of repositories.
func (r *Registry) Forge(p controlplane.Provider, settings Settings, credentials Credentials) (controlplane.Forge, error) {
	account, err := r.Open(p, settings, credentials)
	if err != nil {
		return nil, err
	}
	forge, ok := account.(controlplane.Forge)
	if !ok {
		return nil, fmt.Errorf("%s has no repositories: name an integration of a provider that does", p)
	}
	return forge, nil
}

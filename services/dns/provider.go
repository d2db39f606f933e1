// Package dns keeps DNS zones true to what a cluster wants: desired records and
// live records make a Plan, which is a value, and a Provider applies it.
package dns

import (
	"context"
	"errors"

	"skep/networks"
)

// Provider is one zone, at whoever serves it.
type Provider interface {
	Traits() Traits
	// List returns every record that may stand in the way of a change, whoever
	// made it, with the mark of its owner where it has one.
	List(ctx context.Context) ([]Live, error)
	// Apply makes one change. A change that has been made already is no error.
	Apply(ctx context.Context, c Change) error
}

// Traits are what a zone can hold, beside what DNS itself allows.
type Traits struct {
	// FlattensApex: a CNAME may stand at the domain itself.
	FlattensApex bool
	// Proxied: a record can be switched to the provider's proxy.
	Proxied bool
	// StrictCNAME: a second CNAME of a name or a wildcard CNAME stops the
	// server, so that neither is ever written (dnsmasq).
	StrictCNAME bool
}

// Live is a record as the provider has it.
type Live struct {
	networks.Record        // its Owner is empty: Mark says whose it is
	ID              string // of the provider, if it has any
	Mark            *Mark  // nil: made by hand
	// Off: the record is kept, but not served.
	Off bool
	// Orphan: a mark without a record, left by a change that was cut short. Name
	// is the record's that it marked.
	Orphan bool
}

// ErrChanged is a provider's answer to a change whose record is not what the
// plan saw.
var ErrChanged = errors.New("the record has changed since it was read")

package controlplane

import (
	"fmt"
	"time"

	"skep/secrets"
)

// Source is where deliveries of one kind come from: a webhook that somebody
// registered at a provider. Its secret is what verifies them.
type Source struct {
	ID       int64
	Provider Provider
	Name     Name
	// Integration has the credentials for answers: statuses, comments. Empty
	// for a source that only starts tasks.
	Integration Name
	// Task is started by each delivery; empty: what the delivery says is.
	Task     Name
	Secret   secrets.Value
	Disabled bool
	Created  time.Time
}

// DeliveryID is the provider's own name of a delivery; a repeated one is a
// replay.
type DeliveryID string

// ParseDeliveryID takes printable ASCII of at most 200 bytes.
func ParseDeliveryID(s string) (DeliveryID, error) {
	if s == "" || len(s) > 200 {
		return "", fmt.Errorf("delivery id of %d bytes: 1 to 200 are taken", len(s))
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return "", fmt.Errorf("delivery id %q is not printable ASCII", s)
		}
	}
	return DeliveryID(s), nil
}

// Delivery is a webhook that was verified, as it came in.
type Delivery struct {
	ID       int64 // in order of arrival
	Source   int64
	Provider Provider
	Delivery DeliveryID
	Event    string            // the provider's word: push, pull_request, git.push
	Headers  map[string]string // those that matter, by canonical name
	Body     []byte            // byte for byte
	Received time.Time
	Trace    string // W3C traceparent of the request that brought it; empty: none

	State      DeliveryState
	Attempts   int
	Error      string // of the last attempt
	Run        RunID  // empty until dispatched, and for what starts nothing
	Dispatched time.Time
}

type DeliveryState string

const (
	DeliveryStored     DeliveryState = "stored"     // to be dispatched
	DeliveryDispatched DeliveryState = "dispatched" // a run has it
	DeliveryIgnored    DeliveryState = "ignored"    // nothing to do: no project, no such event
	DeliveryFailed     DeliveryState = "failed"     // given up; can be redelivered
)

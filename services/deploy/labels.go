package deploy

import "strings"

// Labels that Skep puts on what it makes. Beside them every object of a stack
// has Docker's own label, so that `docker stack` commands see it too.
const (
	// LabelStack names the stack.
	LabelStack = "skep.stack"
	// LabelRevision is the revision that last changed a service.
	LabelRevision = "skep.revision"
	// LabelHash is the hash of what was asked for: a service whose own content
	// gives another one was changed by hand.
	LabelHash = "skep.hash"
	// LabelKind says what an object that belongs to Skep itself is.
	LabelKind = "skep.kind"
)

// Values of LabelKind.
const (
	kindNetwork  = "network" // a shared network
	kindRevision = "revision"
	kindLease    = "lease"
)

// ours reports whether a label is bookkeeping, which is never a difference.
func ours(label string) bool {
	switch label {
	case LabelStack, LabelRevision, LabelHash, LabelKind:
		return true
	}
	return strings.HasPrefix(label, "skep.revision.") || strings.HasPrefix(label, "skep.lease.")
}

package deploy

import "errors"

// Errors that a caller may want to tell apart.
var (
	// ErrStalePlan says that a saved plan is not what would be done now.
	ErrStalePlan = errors.New("the plan is stale")
	// ErrLocked says that another deploy is under way.
	ErrLocked = errors.New("another deploy is under way")
	// ErrLeaseLost says that another deploy took the lease over.
	ErrLeaseLost = errors.New("the lease was lost")
	// ErrChanged says that somebody changed an object meanwhile.
	ErrChanged = errors.New("changed by somebody else meanwhile")
	// ErrNotReady says that the Swarm lacks something that a stack needs.
	ErrNotReady = errors.New("the Swarm is not ready for this")
)

// hinted is an error with what to do about it.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// WithHint adds what to do about an error, for people.
func WithHint(err error, hint string) error { return &hinted{err, hint} }

// Hint is what to do about an error, empty when nobody said.
func Hint(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	return ""
}

package secrets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Source resolves references. Both methods answer every reference that they
// are given, each with its own error, so that one that cannot be resolved does
// not keep back the others. A source is asked for many references at once,
// because it can fetch an item once for all of its fields.
type Source interface {
	// Versions says which version of which item stands behind each reference,
	// as of now. It reads no value.
	Versions(ctx context.Context, refs []Reference) Answers
	// Read also reads the values. The caller wipes them.
	Read(ctx context.Context, refs []Reference) Answers
}

// Item is one version of the item behind a reference.
type Item struct {
	ID      string `json:"item,omitempty"` // stays when the item is renamed
	Version string `json:"version"`        // a positive integer, as Lock has it
}

// UnmarshalJSON also reads a version alone, which is all that a lock had once.
func (i *Item) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		*i = Item{}
		return json.Unmarshal(data, &i.Version)
	}
	type plain Item // without this method
	return json.Unmarshal(data, (*plain)(i))
}

// Answer is what a source says of one reference: an item, and a value if it
// was read, or an error.
type Answer struct {
	Item  Item
	Value Value
	Err   error
}

// Answers are the answers by reference.
type Answers map[Reference]Answer

// Fail answers all references with one error.
func Fail(refs []Reference, err error) Answers {
	out := make(Answers, len(refs))
	for _, r := range refs {
		out[r] = Answer{Err: err}
	}
	return out
}

// Wipe wipes every value.
func (a Answers) Wipe() {
	for _, answer := range a {
		answer.Value.Wipe()
	}
}

// Err joins the errors in the order of the references.
func (a Answers) Err() error {
	var errs []error
	for _, r := range slices.SortedFunc(maps.Keys(a), Reference.Compare) {
		if err := a[r].Err; err != nil {
			errs = append(errs, fmt.Errorf("resolve %s: %w", r, err))
		}
	}
	return errors.Join(errs...)
}

// What sources fail with, for errors.Is.
var (
	// ErrNotFound: there is no such vault, item or field.
	ErrNotFound = errors.New("not found")
	// ErrAmbiguous: a name fits more than one vault, item or field.
	ErrAmbiguous = errors.New("ambiguous name")
	// ErrDenied: the source does not let us read it.
	ErrDenied = errors.New("access denied")
	// ErrUnavailable: the source cannot be reached or is not ready.
	ErrUnavailable = errors.New("source unavailable")
)

// NotFoundError names what is missing and what comes near it.
type NotFoundError struct {
	What string // vault, item, section or field
	Name string
	In   string // "vault homelab"; empty for a vault
	Near []string
}

func (e *NotFoundError) Error() string {
	s := fmt.Sprintf("there is no %s %q", e.What, e.Name)
	if e.In != "" {
		s += " in " + e.In
	}
	return s + didYouMean(e.Near)
}

// Is makes it an ErrNotFound.
func (*NotFoundError) Is(target error) bool { return target == ErrNotFound }

// AmbiguousError names what a name could mean.
type AmbiguousError struct {
	What string
	Name string
	In   string
	IDs  []string
}

func (e *AmbiguousError) Error() string {
	s := fmt.Sprintf("%d %ss are called %q", len(e.IDs), e.What, e.Name)
	if e.In != "" {
		s += " in " + e.In
	}
	return fmt.Sprintf("%s: name one by its id, %s", s, list(e.IDs, "or"))
}

// Is makes it an ErrAmbiguous.
func (*AmbiguousError) Is(target error) bool { return target == ErrAmbiguous }

package dockerproxy

import (
	"errors"
	"fmt"
	"strings"
)

// Selector says whose objects a consumer sees: those with all of its labels.
// The zero Selector selects everything.
type Selector struct{ terms []term }

type term struct {
	key, value string
	any        bool // whatever the value
}

// ParseSelector reads "key=value" and "key", several by comma.
func ParseSelector(s string) (Selector, error) {
	if s == "" {
		return Selector{}, nil
	}
	var out Selector
	seen := map[string]bool{}
	for part := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		switch {
		case key == "" || strings.ContainsAny(key, " \t\"\\!"):
			return Selector{}, fmt.Errorf("%q: say label=value", part)
		case ok && value == "":
			return Selector{}, fmt.Errorf("%q: the value is empty", part)
		case seen[key]:
			return Selector{}, fmt.Errorf("%q: the label is named twice", key)
		case reservedAttributes[key]:
			return Selector{}, errors.New(key + ": Docker's events use this name for something else")
		}
		seen[key] = true
		out.terms = append(out.terms, term{key, value, !ok})
	}
	return out, nil
}

// reservedAttributes stand beside the labels in a container's events, and in
// their place.
var reservedAttributes = map[string]bool{
	"name": true, "image": true, "exitCode": true, "signal": true, "oldName": true, "execID": true, "execDuration": true,
	"path": true, "container": true, "comment": true, "detachKeys": true,
}

func (s Selector) empty() bool { return len(s.terms) == 0 }

// Selects reports whether an object with these labels is seen.
func (s Selector) Selects(labels map[string]string) bool {
	for _, t := range s.terms {
		if value, ok := labels[t.key]; !ok || !t.any && value != t.value {
			return false
		}
	}
	return true
}

func (t term) String() string {
	if t.any {
		return t.key
	}
	return t.key + "=" + t.value
}

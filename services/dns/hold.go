package dns

import (
	"slices"
	"time"

	"skep/networks"
)

// Hold keeps the records of a name for a while after nothing wants them: the
// grace period of a server that holds its records itself.
type Hold struct {
	Grace time.Duration
	names map[string]held
}

type held struct {
	records []networks.Record
	gone    time.Time // zero while the name is wanted
}

// Update takes the records that are wanted now and returns those to serve, and
// when to call again because a name's time is over; zero if no name is going.
func (h *Hold) Update(wanted []networks.Record, now time.Time) (serve []networks.Record, next time.Time) {
	names := map[string]held{}
	for _, r := range wanted {
		names[r.Name] = held{records: append(names[r.Name].records, r)}
	}
	for name, old := range h.names {
		if _, ok := names[name]; ok {
			continue
		}
		if old.gone.IsZero() {
			old.gone = now
		}
		due := old.gone.Add(h.Grace)
		if !now.Before(due) {
			continue
		}
		names[name] = old
		if next.IsZero() || due.Before(next) {
			next = due
		}
	}
	h.names = names
	for _, name := range sortedKeys(names) {
		serve = append(serve, slices.SortedFunc(slices.Values(names[name].records), networks.Record.Compare)...)
	}
	return serve, next
}

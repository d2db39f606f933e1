package dockerproxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
)

// event is the part of an event that tells whose it is.
type event struct {
	Type   string
	Action string
	Actor  struct {
		ID         string
		Attributes labels
	}
}

// kindOf is where objects of an event's type are described. Events of other
// types, of nodes and images among them, are nobody's.
var kindOf = map[string]string{
	"service": "services", "network": "networks", "volume": "volumes", "config": "configs", "secret": "secrets",
}

// watcher tells the events of what is seen from others. It remembers what it
// saw, for a removed object cannot be asked for its labels.
type watcher struct {
	narrower *narrower
	known    map[string]set // kind to ids
}

// watch begins with all that is seen now.
func (n *narrower) watch(ctx context.Context) (*watcher, error) {
	w := &watcher{narrower: n, known: map[string]set{}}
	for kind := range maps.Values(kindOf) {
		list, err := n.selected(ctx, kind)
		if err != nil && !errors.Is(err, errNotServed) {
			return nil, fmt.Errorf("list %s: %w", kind, err)
		}
		w.known[kind] = set{}
		for _, o := range list {
			w.known[kind][o.id(kind)] = true
		}
	}
	return w, nil
}

func (w *watcher) keep(ctx context.Context, line []byte) (bool, error) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		return false, fmt.Errorf("%w: %w", errForm, err)
	}
	if e.Type == "container" {
		return w.narrower.selector.Selects(e.Actor.Attributes), nil
	}
	kind, ok := kindOf[e.Type]
	if !ok || e.Actor.ID == "" {
		return false, nil
	}
	o, err := w.narrower.engine.inspect(ctx, kind, e.Actor.ID)
	if errors.Is(err, errMissing) {
		seen := w.known[kind][e.Actor.ID]
		if e.Action == "remove" || e.Action == "destroy" {
			delete(w.known[kind], e.Actor.ID)
		}
		return seen, nil
	}
	if err != nil {
		return false, err
	}
	found, err := o.of(kind)
	if err != nil {
		return false, err
	}
	if !w.narrower.selector.Selects(found) {
		delete(w.known[kind], e.Actor.ID)
		return false, nil
	}
	w.known[kind][e.Actor.ID] = true
	return true, nil
}

// filterEvents keeps the events that are seen; Docker writes one a line.
func filterEvents(from io.ReadCloser, keep func(line []byte) (bool, error)) io.ReadCloser {
	m := &meter{from: from, left: maxEntry}
	decoder := json.NewDecoder(m)
	return &filtered{from: from, next: func() ([]byte, error) {
		m.left = maxEntry
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return nil, err
		}
		ok, err := keep(raw)
		if err != nil || !ok {
			return nil, err
		}
		return append(bytes.TrimSpace(raw), '\n'), nil
	}}
}

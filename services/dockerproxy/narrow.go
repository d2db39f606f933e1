package dockerproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// narrower keeps a consumer to the objects that a selector selects.
type narrower struct {
	selector Selector
	engine   engine
}

var (
	// errOutside: the object is none that the consumer sees. It looks to it
	// like one that is missing.
	errOutside = errors.New("outside of the selector")
	// errNothing: the answer is a list of nothing.
	errNothing = errors.New("nothing is selected")
)

// admit narrows a call. The call that it returns names its object by id, so
// that the object that was looked at is the one that is used.
func (n *narrower) admit(ctx context.Context, c call) (call, error) {
	switch c.route.narrow {
	case clusterWide, narrowEvents:
		return c, nil
	case narrowList:
		return n.list(ctx, c)
	case narrowObject:
		id, err := n.object(ctx, c.route.kind(), c.name)
		if err != nil {
			return c, err
		}
		c.name, c.target.segments = id, c.route.withName(id)
		return c, nil
	}
	return c, fmt.Errorf("%w: %s cannot be narrowed to the selector", ErrRefused, c.route)
}

// object returns the id of an object that is seen.
func (n *narrower) object(ctx context.Context, kind, name string) (string, error) {
	o, err := n.engine.inspect(ctx, kind, name)
	if errors.Is(err, errMissing) {
		return "", errOutside
	}
	if err != nil {
		return "", err
	}
	id := o.id(kind)
	switch kind { // whose a task or a process is, what it runs in tells
	case "tasks":
		_, err = n.object(ctx, "services", o.ServiceID)
		return id, err
	case "exec":
		_, err = n.object(ctx, "containers", o.ContainerID)
		return id, err
	}
	found, err := o.of(kind)
	if err != nil {
		return "", err
	}
	if id == "" || !n.selector.Selects(found) {
		return "", errOutside
	}
	return id, nil
}

// list makes Docker itself leave out what is not seen. selected looks at what
// comes nevertheless.
func (n *narrower) list(ctx context.Context, c call) (call, error) {
	query, err := url.ParseQuery(c.target.query)
	if err != nil {
		return c, fmt.Errorf("%w: the query cannot be read", ErrRefused)
	}
	if len(query["filters"]) > 1 {
		return c, fmt.Errorf("%w: the query has more than one filters", ErrRefused)
	}
	filters, err := parseFilters(query.Get("filters"))
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if c.route.kind() == "tasks" {
		// A task has no labels of its own to filter by.
		if c.services, err = n.services(ctx, filters["service"]); err != nil {
			return c, err
		}
		filters["service"] = c.services
	} else if filters["label"], err = n.labels(filters["label"]); err != nil {
		return c, err
	}
	text, err := json.Marshal(filters)
	if err != nil {
		return c, err
	}
	query.Set("filters", string(text))
	c.target.query = query.Encode()
	return c, nil
}

// set is how Docker's filters say a list.
type set map[string]bool

// parseFilters reads both forms that clients write.
func parseFilters(s string) (map[string]set, error) {
	out := map[string]set{}
	if s == "" || json.Unmarshal([]byte(s), &out) == nil && out != nil {
		return out, nil
	}
	var lists map[string][]string
	if err := json.Unmarshal([]byte(s), &lists); err != nil {
		return nil, errors.New("the filters cannot be read")
	}
	out = map[string]set{}
	for name, list := range lists {
		out[name] = set{}
		for _, value := range list {
			out[name][value] = true
		}
	}
	return out, nil
}

// labels adds the selector to what a client filters by. Swarm keeps one value
// for a label, whichever of two: a client's own must not stand beside ours.
func (n *narrower) labels(own set) (set, error) {
	out := set{}
	for label := range own {
		key, value, valued := strings.Cut(label, "=")
		i := slices.IndexFunc(n.selector.terms, func(t term) bool { return t.key == key })
		switch {
		case i < 0:
			out[label] = true
		case valued && n.selector.terms[i].any:
			out[label] = true
		case valued && value != n.selector.terms[i].value:
			return nil, errNothing
		}
	}
	for _, t := range n.selector.terms {
		if !t.any || !slices.ContainsFunc(keys(out), func(label string) bool { return strings.HasPrefix(label, t.key+"=") }) {
			out[t.String()] = true
		}
	}
	return out, nil
}

func keys(s set) []string {
	var out []string
	for k := range s {
		out = append(out, k)
	}
	return out
}

// services are the ids of the services that are seen, and that a client asks
// for by name or id where it asks at all.
func (n *narrower) services(ctx context.Context, wanted set) (set, error) {
	seen, err := n.selected(ctx, "services")
	if err != nil {
		return nil, err
	}
	out := set{}
	for _, o := range seen {
		asked := len(wanted) == 0
		for w := range wanted {
			asked = asked || w == o.Spec.Name || w != "" && strings.HasPrefix(o.ID, w)
		}
		if asked {
			out[o.ID] = true
		}
	}
	if len(out) == 0 {
		return nil, errNothing
	}
	return out, nil
}

// selected lists the objects of a kind that are seen.
func (n *narrower) selected(ctx context.Context, kind string) ([]object, error) {
	filters := map[string]set{"label": {}}
	for _, t := range n.selector.terms {
		filters["label"][t.String()] = true
	}
	text, err := json.Marshal(filters)
	if err != nil {
		return nil, err
	}
	var list []object
	query := url.Values{"filters": {string(text)}}
	if kind == "volumes" {
		var volumes struct{ Volumes []object }
		err = n.engine.get(ctx, []string{kind}, query, &volumes)
		list = volumes.Volumes
	} else {
		err = n.engine.get(ctx, []string{kind}, query, &list)
	}
	if err != nil {
		return nil, err
	}
	var out []object
	for _, o := range list {
		found, err := o.of(kind)
		if err != nil {
			return nil, err
		}
		if n.selector.Selects(found) {
			out = append(out, o)
		}
	}
	return out, nil
}

// keeps reports whether an entry of a list is seen.
func (n *narrower) keeps(c call, entry []byte) (bool, error) {
	var o object
	if err := json.Unmarshal(entry, &o); err != nil {
		return false, fmt.Errorf("%w: %w", errForm, err)
	}
	if c.route.kind() == "tasks" {
		return c.services[o.ServiceID], nil
	}
	found, err := o.of(c.route.kind())
	return err == nil && n.selector.Selects(found), err
}

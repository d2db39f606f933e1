package dockerproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// engine asks Docker what the proxy itself wants to know.
type engine struct{ transport http.RoundTripper }

var (
	// errMissing: Docker has no such object.
	errMissing = errors.New("no such object")
	// errNotServed: the engine has none of the sort, for it is no manager.
	errNotServed = errors.New("not served")
)

// maxInspect bounds the description of one object, and of a stack's services.
const maxInspect = 16 << 20

func (e engine) get(ctx context.Context, segments []string, query url.Values, into any) error {
	u := url.URL{Scheme: "http", Host: "docker", Path: "/" + strings.Join(segments, "/"), RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	response, err := e.transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusNotFound:
		return errMissing
	case response.StatusCode == http.StatusServiceUnavailable:
		return errNotServed
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("the engine answers %s to %s", response.Status, u.Path)
	}
	answer := io.LimitReader(response.Body, maxInspect)
	if into != nil {
		if err := json.NewDecoder(answer).Decode(into); err != nil {
			return fmt.Errorf("read the engine's answer to %s: %w", u.Path, err)
		}
	}
	_, err = io.Copy(io.Discard, answer) // to its end, so that the connection is kept
	return err
}

// ping reports whether Docker answers.
func (e engine) ping(ctx context.Context) error { return e.get(ctx, []string{"_ping"}, nil, nil) }

// object is what tells whose an object is: the parts that descriptions of
// every kind have in their places.
type object struct {
	ID          string
	Name        string
	Labels      labels
	ServiceID   string // of a task
	ContainerID string // of a process that was started in one
	Spec        struct {
		Name   string
		Labels labels
	}
	Config json.RawMessage // of a container an object
}

func (o object) id(kind string) string {
	if kind == "volumes" {
		return o.Name
	}
	return o.ID
}

type labels map[string]string

// of returns the labels of an object of this kind.
func (o object) of(kind string) (labels, error) {
	switch kind {
	case "services", "configs", "secrets":
		return o.Spec.Labels, nil
	case "containers":
		if len(o.Config) == 0 {
			return o.Labels, nil // an entry of the list
		}
		var config struct{ Labels labels }
		if err := json.Unmarshal(o.Config, &config); err != nil {
			return nil, fmt.Errorf("read a container's labels: %w", err)
		}
		return config.Labels, nil
	}
	return o.Labels, nil
}

// inspect describes one object.
func (e engine) inspect(ctx context.Context, kind, name string) (object, error) {
	path := []string{kind, name}
	if kind == "containers" || kind == "exec" {
		path = append(path, "json")
	}
	var o object
	err := e.get(ctx, path, nil, &o)
	return o, err
}

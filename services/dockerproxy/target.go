package dockerproxy

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// target is a request's URI, understood in the one way that it can be.
type target struct {
	version  string   // "v1.41", or empty
	segments []string // decoded, at least one
	query    string   // as it came
}

// path is the target's one spelling, which goes to the daemon.
func (t target) path() string {
	path := "/" + strings.Join(t.segments, "/")
	if t.version != "" {
		path = "/" + t.version + path
	}
	return path
}

var apiVersion = regexp.MustCompile(`^v1\.[0-9]{1,3}$`)

// parseTarget refuses every URI that two readers could take for two paths.
func parseTarget(requestURI string) (target, error) {
	raw, query, _ := strings.Cut(requestURI, "?")
	rest, ok := strings.CutPrefix(raw, "/")
	if !ok {
		return target{}, errors.New("the request's target is no path")
	}
	decoded, err := url.PathUnescape(rest)
	if err != nil {
		return target{}, errors.New("the path cannot be decoded")
	}
	if strings.Count(decoded, "/") != strings.Count(rest, "/") {
		return target{}, errors.New("the path holds an encoded slash")
	}
	t := target{query: query, segments: strings.Split(decoded, "/")}
	for _, segment := range t.segments {
		if err := checkSegment(segment); err != nil {
			return target{}, err
		}
	}
	if apiVersion.MatchString(t.segments[0]) {
		t.version, t.segments = t.segments[0], t.segments[1:]
	}
	if len(t.segments) == 0 {
		return target{}, errors.New("the path ends after the version")
	}
	return t, nil
}

// segmentForm covers the names of all that Docker has, among them images with
// tag and digest. None of it needs escaping in a path.
var segmentForm = regexp.MustCompile(`^[A-Za-z0-9_.:@+-]+$`)

func checkSegment(segment string) error {
	switch {
	case segment == "":
		return errors.New("the path has an empty segment")
	case segment == "." || segment == "..":
		return errors.New("the path has a dot segment")
	case !segmentForm.MatchString(segment):
		return fmt.Errorf("the path's segment %q holds more than letters, digits and _.:@+-", segment)
	}
	return nil
}

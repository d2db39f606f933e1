package stack

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Name is the name of a stack, as `docker stack deploy` takes it.
type Name string

// stackName follows the Compose specification's project name: lower case
// letters, digits, dashes and underscores, starting with a letter or digit.
var stackName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)

// maxName leaves room in Swarm's 63 characters for "_<service>".
const maxName = 40

// ParseName reads a stack name.
func ParseName(s string) (Name, error) {
	switch {
	case s == "":
		return "", errors.New("a stack needs a name")
	case len(s) > maxName:
		return "", fmt.Errorf("stack name %q is longer than %d characters", s, maxName)
	case !stackName.MatchString(s):
		return "", fmt.Errorf("stack name %q may hold lower case letters, digits, - and _ only, and starts with a letter or digit", s)
	}
	return Name(s), nil
}

// ServiceName is the name of a service within its stack.
type ServiceName string

var serviceName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// ParseServiceName reads a Compose service name.
func ParseServiceName(s string) (ServiceName, error) {
	if !serviceName.MatchString(s) {
		return "", fmt.Errorf("service name %q may hold letters, digits, ., - and _ only, and starts with a letter or digit", s)
	}
	return ServiceName(s), nil
}

// ServiceRef names a service across the cluster.
type ServiceRef struct {
	Stack   Name
	Service ServiceName
}

// ParseServiceRef reads "stack/service".
func ParseServiceRef(s string) (ServiceRef, error) {
	left, right, ok := strings.Cut(s, "/")
	if !ok {
		return ServiceRef{}, fmt.Errorf("%q is not of the form stack/service", s)
	}
	name, err := ParseName(left)
	if err != nil {
		return ServiceRef{}, err
	}
	service, err := ParseServiceName(right)
	if err != nil {
		return ServiceRef{}, err
	}
	return ServiceRef{name, service}, nil
}

func (r ServiceRef) String() string { return string(r.Stack) + "/" + string(r.Service) }

// MarshalText writes "stack/service".
func (r ServiceRef) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads "stack/service".
func (r *ServiceRef) UnmarshalText(text []byte) (err error) {
	*r, err = ParseServiceRef(string(text))
	return err
}

// Compare orders references by stack, then service.
func (r ServiceRef) Compare(o ServiceRef) int {
	return cmp.Or(cmp.Compare(r.Stack, o.Stack), cmp.Compare(r.Service, o.Service))
}

// Package networks holds overlay networks, their subnets and DNS zones as
// values: what the bundle says of the network, before anything is created.
package networks

import (
	"errors"
	"fmt"
	"regexp"
)

// Name is the name of an overlay network, as Swarm takes it. Docker lets a
// local network have a dot in its name; Swarm wants a DNS name component.
// https://github.com/moby/swarmkit/blob/master/manager/controlapi/common.go
type Name string

const maxName = 63

var networkName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9_-]*[a-zA-Z0-9])?$`)

// ParseName reads the name of an overlay network.
func ParseName(s string) (Name, error) {
	switch {
	case s == "":
		return "", errors.New("a network needs a name")
	case len(s) > maxName:
		return "", fmt.Errorf("network name %q has %d characters, Swarm takes %d", s, len(s), maxName)
	case !networkName.MatchString(s):
		return "", fmt.Errorf("network name %q may hold letters, digits, - and _ only, and begins and ends with a letter or digit", s)
	}
	return Name(s), nil
}

package main

import (
	"testing"

	"skep/services/worker/swarmjob"
)

func TestNPM(t *testing.T) {
	const registry, network = "http://verdaccio:4873", "npm"
	for _, c := range []struct {
		registry, network string
		fails             bool
	}{
		{registry, network, false},
		{"", "", false},
		{registry, "", true},
		{"", network, true},
		{"verdaccio:4873", network, true},
		{"ftp://verdaccio", network, true},
	} {
		set := map[string]string{"SKEP_NPM_REGISTRY": c.registry, "SKEP_NPM_NETWORK": c.network}
		get := settings(func(name string) (string, bool) { v, ok := set[name]; return v, ok })
		npm, err := get.npm()
		if (err != nil) != c.fails || err == nil && npm != (swarmjob.NPM{Registry: c.registry, Network: c.network}) {
			t.Errorf("%q on %q is %+v, %v", c.registry, c.network, npm, err)
		}
	}
}

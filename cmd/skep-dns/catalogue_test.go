package main

import (
	"slices"
	"testing"

	"skep/generator/expand"
	"skep/generator/spec"
	"skep/networks"
)

// The catalogue's zones file says of each zone what its cluster file does.
func TestCatalogueZones(t *testing.T) {
	d, name, err := load("../../stacks/infrastructure/dns/dns.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cluster, problems := spec.Load(t.Context(), "../../stacks", spec.Options{})
	if cluster == nil || problems.Failed() {
		t.Fatal(problems)
	}
	b, err := expand.Expand(cluster)
	if err != nil {
		t.Fatal(err)
	}
	if string(name) != cluster.Name {
		t.Errorf("the cluster is %s, want %s", name, cluster.Name)
	}
	if len(d.Zones) != len(b.Zones) {
		t.Errorf("%d zones, want %d", len(d.Zones), len(b.Zones))
	}
	for _, want := range b.Zones {
		i := slices.IndexFunc(d.Zones, func(z networks.Zone) bool { return z.Name == want.Name })
		if i < 0 {
			t.Errorf("no zone %s", want.Name)
			continue
		}
		got := d.Zones[i]
		got.Records, want.Records = nil, nil
		if got.Domain != want.Domain || got.Provider != want.Provider || got.Target != want.Target || got.Proxied != want.Proxied || got.Private != want.Private {
			t.Errorf("zone %+v, want %+v", got, want)
		}
	}
}

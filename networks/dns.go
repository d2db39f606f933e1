package networks

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/goccy/go-yaml"
)

// DNS is the content of dns.yaml: every zone of the cluster.
type DNS struct {
	Zones []Zone `yaml:"zones"`
}

const dnsHeader = "# dns.yaml: written by skep, the records of every zone\n"

// Marshal writes dns.yaml, sorted.
func (d DNS) Marshal() ([]byte, error) {
	sorted := DNS{Zones: slices.Clone(d.Zones)}
	for i, z := range sorted.Zones {
		sorted.Zones[i].Records = slices.SortedFunc(slices.Values(z.Records), Record.Compare)
	}
	slices.SortStableFunc(sorted.Zones, func(a, b Zone) int { return cmp.Compare(a.Name, b.Name) })
	body, err := yaml.MarshalWithOptions(sorted, yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("write dns.yaml: %w", err)
	}
	return append([]byte(dnsHeader), body...), nil
}

package networks

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/goccy/go-yaml"
)

// DNS is the content of dns.yaml: every zone of the cluster. The cluster's name
// marks the records that it makes.
type DNS struct {
	Cluster string `yaml:"cluster,omitempty"`
	Zones   []Zone `yaml:"zones"`
}

// ParseDNS reads dns.yaml. A key that it does not know is an error, and so is a
// zone without a domain or a second one of its name or domain.
func ParseDNS(content []byte) (DNS, error) {
	var d DNS
	if err := yaml.UnmarshalWithOptions(content, &d, yaml.Strict()); err != nil {
		return DNS{}, err
	}
	seen := map[string]bool{}
	for i, z := range d.Zones {
		domain, err := ParseHost(z.Domain)
		switch {
		case z.Name == "":
			return DNS{}, fmt.Errorf("zone %d has no name", i+1)
		case err != nil:
			return DNS{}, fmt.Errorf("zone %s: domain: %w", z.Name, err)
		case seen["name "+z.Name] || seen["domain "+domain]:
			return DNS{}, fmt.Errorf("zone %s: its name or domain is there twice", z.Name)
		}
		if z.Target != "" {
			if _, _, err := Target(z.Target); err != nil {
				return DNS{}, fmt.Errorf("zone %s: %w", z.Name, err)
			}
		}
		seen["name "+z.Name], seen["domain "+domain] = true, true
		d.Zones[i].Domain = domain
	}
	return d, nil
}

const dnsHeader = "# dns.yaml: written by skep, the records of every zone\n"

// Marshal writes dns.yaml, sorted.
func (d DNS) Marshal() ([]byte, error) {
	sorted := DNS{Cluster: d.Cluster, Zones: slices.Clone(d.Zones)}
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

package dns

import (
	"fmt"
	"slices"
	"strings"

	"skep/networks"
)

// Zone is a zone of the cluster with the records that it should have.
type Zone struct {
	networks.Zone
	// Refused are wanted records that the zone must not have.
	Refused []Conflict
	// inner are the domains of zones that lie inside this one; what is in them
	// is theirs, even where one provider serves both.
	inner []string
}

// Conflict is a wanted record that is not made, and why.
type Conflict struct {
	Record networks.Record `json:"record"`
	Reason string          `json:"reason"`
}

// Zones gives each record to its zone: a name belongs to the zone with the
// longest domain, and to one zone alone (no split horizon).
func Zones(list []networks.Zone) []Zone {
	owners := map[string][]string{}
	for _, z := range list {
		for _, r := range z.Records {
			name := strings.ToLower(r.Name)
			if !slices.Contains(owners[name], z.Name) {
				owners[name] = append(owners[name], z.Name)
			}
		}
	}
	out := make([]Zone, 0, len(list))
	for _, z := range list {
		zone := Zone{Zone: z}
		zone.Domain = strings.ToLower(z.Domain)
		zone.Records = nil
		for _, other := range list {
			if domain := strings.ToLower(other.Domain); domain != zone.Domain && within(domain, zone.Domain) {
				zone.inner = append(zone.inner, domain)
			}
		}
		for _, r := range z.Records {
			canonical, err := r.Canonical()
			switch zones := owners[strings.ToLower(r.Name)]; {
			case err != nil:
				zone.refuse(r, "%v", err)
			case !within(canonical.Name, zone.Domain):
				zone.refuse(canonical, "the name is outside %s", zone.Domain)
			case len(zones) > 1:
				zone.refuse(canonical, "zones %s both have the name: one name answers in one zone", strings.Join(zones, " and "))
			case !zone.Holds(canonical.Name):
				zone.refuse(canonical, "the name belongs to a zone inside %s", zone.Domain)
			default:
				zone.Records = append(zone.Records, canonical)
			}
		}
		out = append(out, zone)
	}
	return out
}

func (z *Zone) refuse(r networks.Record, format string, args ...any) {
	z.Refused = append(z.Refused, Conflict{r, fmt.Sprintf(format, args...)})
}

// Fit refuses what a zone with these traits cannot hold, so that one bad record
// spoils no other. The records that remain are sorted, each once: several
// services may ask for one, and the first owns it.
func (z Zone) Fit(t Traits) Zone {
	records := slices.SortedFunc(slices.Values(z.Records), networks.Record.Compare)
	records = slices.CompactFunc(records, same)
	z.Records, z.Refused = nil, slices.Clone(z.Refused)
	for i, r := range records {
		alone := (i == 0 || records[i-1].Name != r.Name) && (i == len(records)-1 || records[i+1].Name != r.Name)
		switch {
		case isCNAME(r) && r.Name == z.Domain && !t.FlattensApex:
			z.refuse(r, "a CNAME cannot stand at the domain itself (RFC 1034, 3.6.2): point it at an address")
		case isCNAME(r) && t.StrictCNAME && r.Name[0] == '*':
			z.refuse(r, "a wildcard CNAME stops this server: name each host, or point the wildcard at an address")
		case !alone && slices.ContainsFunc(records, func(o networks.Record) bool { return o.Name == r.Name && isCNAME(o) }):
			z.refuse(r, "a CNAME stands alone (RFC 1034, 3.6.2), and the name is wanted twice")
		default:
			z.Records = append(z.Records, r)
		}
	}
	return z
}

// Holds reports whether a name is in the zone, and in none inside it.
func (z Zone) Holds(name string) bool {
	return within(name, z.Domain) && !slices.ContainsFunc(z.inner, func(domain string) bool { return within(name, domain) })
}

func within(name, domain string) bool { return name == domain || strings.HasSuffix(name, "."+domain) }

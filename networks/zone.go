package networks

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Zone is a DNS zone and what Skep wants in it.
type Zone struct {
	Name     string `yaml:"name"` // in the cluster file
	Domain   string `yaml:"domain"`
	Provider string `yaml:"provider,omitempty"`
	Private  bool   `yaml:"private,omitempty"` // answers inside only
	// Target is what the names of routes point at, a host in full or an address,
	// and Proxied whether through the provider's proxy; empty: nothing by itself.
	Target  string   `yaml:"target,omitempty"`
	Proxied bool     `yaml:"proxied,omitempty"`
	Records []Record `yaml:"records"`
}

// zoneTTL is for records that leave it to the provider, in seconds.
const zoneTTL = 300

// File writes the zone as a master file (RFC 1035, 5). A record that several
// services ask for is in it once.
//
// Its serial is a hash of the records: it tells one content from another and
// does not grow, so a server that serves the zone to secondaries sets its own
// (RFC 1982). The name server, ns.<domain>, is a placeholder; a server that
// insists on its address (BIND) needs a record of that name.
//
// The error joins one for each record that no zone can hold.
func (z Zone) File() (string, error) {
	domain, err := ParseHost(z.Domain)
	if err != nil {
		return "", fmt.Errorf("zone %s: %w", z.Name, err)
	}
	z.Domain = domain
	sets, err := z.sets()
	if err != nil {
		return "", err
	}
	width := 0
	for _, set := range sets {
		width = max(width, len(z.relative(set[0].Name)))
	}
	var body strings.Builder
	for _, set := range sets {
		for _, r := range set {
			ttl := ""
			if r.TTL != 0 {
				ttl = strconv.FormatUint(uint64(r.TTL), 10) + " "
			}
			fmt.Fprintf(&body, "%-*s %sIN %s %s\n", width, z.relative(r.Name), ttl, r.Type, r.data())
		}
	}
	sum := sha256.Sum256([]byte(body.String()))
	serial := max(1, binary.BigEndian.Uint32(sum[:]))
	head := fmt.Sprintf(`$ORIGIN %[1]s.
$TTL %[2]d
@ IN SOA ns.%[1]s. hostmaster.%[1]s. %[3]d 3600 600 604800 %[2]d
@ IN NS ns.%[1]s.
`, domain, zoneTTL, serial)
	return head + body.String(), nil
}

// sets returns the records by name, the domain's own first, each once.
func (z Zone) sets() ([][]Record, error) {
	var problems []error
	var records []Record
	for _, r := range z.Records {
		r, err := r.Canonical()
		switch {
		case err != nil:
			problems = append(problems, z.problem(r, "%w", err))
		case r.Name != z.Domain && !strings.HasSuffix(r.Name, "."+z.Domain):
			problems = append(problems, z.problem(r, "it is outside %s", z.Domain))
		case r.Name == z.Domain && r.Type == CNAME:
			problems = append(problems, z.problem(r, "the domain itself has an SOA record, and a CNAME stands alone (RFC 1034, 3.6.2): point it at an address"))
		default:
			records = append(records, r)
		}
	}
	slices.SortStableFunc(records, func(a, b Record) int {
		// "" for the domain itself
		return cmp.Or(cmp.Compare(strings.TrimSuffix(a.Name, z.Domain), strings.TrimSuffix(b.Name, z.Domain)), a.Compare(b))
	})
	records = slices.CompactFunc(records, func(a, b Record) bool {
		return a.Name == b.Name && a.Type == b.Type && a.Content == b.Content && a.TTL == b.TTL
	})
	var sets [][]Record
	for i, r := range records {
		if i == 0 || records[i-1].Name != r.Name {
			sets = append(sets, nil)
		} else if before := records[i-1]; before.Type == CNAME || r.Type == CNAME {
			problems = append(problems, z.problem(r, "a CNAME stands alone (RFC 1034, 3.6.2), and %s has %s %s here", ownerOf(before), before.Type, before.Content))
		} else if before.Type == r.Type && before.TTL != r.TTL {
			problems = append(problems, z.problem(r, "its TTL is %d, and %s has %d for the same name (RFC 2181, 5.2)", r.TTL, ownerOf(before), before.TTL))
		}
		last := len(sets) - 1
		sets[last] = append(sets[last], r)
	}
	return sets, errors.Join(problems...)
}

func (z Zone) problem(r Record, format string, args ...any) error {
	return fmt.Errorf("zone %s: %s %s of %s: %w", z.Name, r.Type, r.Name, ownerOf(r), fmt.Errorf(format, args...))
}

func ownerOf(r Record) string { return cmp.Or(r.Owner, "nobody") }

func (z Zone) relative(name string) string {
	if name == z.Domain {
		return "@"
	}
	return strings.TrimSuffix(name, "."+z.Domain)
}

// data is the record's content in a master file.
func (r Record) data() string {
	switch r.Type {
	case CNAME:
		return r.Content + "."
	case TXT:
		return quoteTXT(r.Content)
	}
	return r.Content
}

// maxText is the length of one <character-string> (RFC 1035, 3.3).
const maxText = 255

// quoteTXT writes text as quoted strings (RFC 1035, 5.1).
func quoteTXT(s string) string {
	var b strings.Builder
	for i := 0; i == 0 || i < len(s); i += maxText {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteByte('"')
		for _, c := range []byte(s[i:min(len(s), i+maxText)]) {
			switch {
			case c == '"' || c == '\\':
				b.WriteByte('\\')
				b.WriteByte(c)
			case c < ' ' || c > '~':
				fmt.Fprintf(&b, `\%03d`, c)
			default:
				b.WriteByte(c)
			}
		}
		b.WriteByte('"')
	}
	return b.String()
}

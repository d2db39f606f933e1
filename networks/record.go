package networks

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// RecordType is the type of a DNS record.
type RecordType string

const (
	A     RecordType = "A"
	AAAA  RecordType = "AAAA"
	CNAME RecordType = "CNAME"
	TXT   RecordType = "TXT"
)

// Record is one DNS record.
type Record struct {
	Name    string     `yaml:"name" json:"name"` // in full, without the last dot
	Type    RecordType `yaml:"type" json:"type"`
	Content string     `yaml:"content" json:"content"`
	TTL     uint32     `yaml:"ttl,omitempty" json:"ttl,omitempty"`         // seconds, 0 is the provider's default
	Proxied bool       `yaml:"proxied,omitempty" json:"proxied,omitempty"` // by the provider, if it can
	Owner   string     `yaml:"owner,omitempty" json:"owner,omitempty"`     // stack/service
}

// Compare orders records by name, type and content.
func (r Record) Compare(o Record) int {
	return cmp.Or(
		cmp.Compare(r.Name, o.Name),
		cmp.Compare(r.Type, o.Type),
		cmp.Compare(r.Content, o.Content),
		cmp.Compare(r.TTL, o.TTL),
		cmp.Compare(r.Owner, o.Owner),
	)
}

// Target says what record points a name at s: A or AAAA for an address, CNAME
// for a host name in full.
func Target(s string) (RecordType, string, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		switch addr = addr.Unmap(); {
		case addr.Zone() != "":
			return "", "", fmt.Errorf("target %q: an address with a zone means something on one machine only", s)
		case addr.Is4():
			return A, addr.String(), nil
		}
		return AAAA, addr.String(), nil
	}
	host, err := ParseHost(s)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("target: %w", err)
	case strings.HasPrefix(host, "*."):
		return "", "", fmt.Errorf("target %q is a wildcard: names point at one host", s)
	case !strings.Contains(host, "."):
		return "", "", fmt.Errorf("target %q has no domain: write the name in full, %s.example.com", s, host)
	}
	return CNAME, host, nil
}

// Canonical returns the record in one spelling, or what a zone file cannot hold
// of it.
func (r Record) Canonical() (Record, error) {
	r.Name = strings.ToLower(r.Name)
	addr, addrErr := netip.ParseAddr(r.Content)
	switch r.Type {
	case A:
		if addrErr != nil || !addr.Is4() {
			return r, fmt.Errorf("%q is not an IPv4 address", r.Content)
		}
	case AAAA:
		if addrErr != nil || !addr.Is6() || addr.Zone() != "" {
			return r, fmt.Errorf("%q is not an IPv6 address", r.Content)
		}
		r.Content = addr.String()
	case CNAME:
		r.Content = strings.ToLower(r.Content)
		if strings.HasPrefix(r.Content, "*.") {
			return r, errors.New("the target is a wildcard")
		}
		if err := checkHost(r.Content, true); err != nil {
			return r, fmt.Errorf("target %q: %w", r.Content, err)
		}
	case TXT:
	default:
		return r, fmt.Errorf("unknown record type %q", r.Type)
	}
	if err := checkHost(r.Name, r.Type == TXT || r.Type == CNAME); err != nil {
		return r, fmt.Errorf("name: %w", err)
	}
	return r, nil
}

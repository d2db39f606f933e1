package secrets

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Prefix is the beginning of references: a vault, or an item, section or field
// of it. It ends where a name ends: op://homelab is no beginning of
// op://homelab-admin/item/field.
type Prefix struct{ parts []string }

// ParsePrefix reads op://vault, op://vault/item and so on; a slash may end it.
func ParsePrefix(s string) (Prefix, error) {
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		return Prefix{}, errors.New("not the beginning of a secret reference: it does not begin with " + scheme)
	}
	parts := strings.Split(strings.ToLower(strings.TrimSuffix(rest, "/")), "/")
	if len(parts) > 4 {
		return Prefix{}, fmt.Errorf("%q has %d parts, a reference has three or four", s, len(parts))
	}
	for i, part := range parts {
		if err := checkPart([]string{"vault", "item", "section or field", "field"}[i], part); err != nil {
			return Prefix{}, fmt.Errorf("%q: %w", s, err)
		}
	}
	return Prefix{parts}, nil
}

// Covers reports whether a reference begins so.
func (p Prefix) Covers(r Reference) bool {
	path := []string{r.Vault, r.Item, r.Field}
	if r.Section != "" {
		path = []string{r.Vault, r.Item, r.Section, r.Field}
	}
	return len(p.parts) > 0 && len(p.parts) <= len(path) && slices.Equal(p.parts, path[:len(p.parts)])
}

func (p Prefix) String() string { return scheme + strings.Join(p.parts, "/") }

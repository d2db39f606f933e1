package secretstest

import (
	"maps"
	"slices"
	"strings"

	"github.com/1Password/connect-sdk-go/onepassword"
)

// Fill adds vaults and items, and returns the ids of the items by
// "vault/item".
func (c *Connect) Fill(content Content) map[string]string {
	ids := map[string]string{}
	for _, vault := range slices.Sorted(maps.Keys(content)) {
		id := c.Vault(vault)
		for _, title := range slices.Sorted(maps.Keys(content[vault])) {
			ids[vault+"/"+title] = c.Item(id, NewItem(title, content[vault][title]))
		}
	}
	return ids
}

// NewItem makes an item of fields, "field" or "section/field".
func NewItem(title string, fields map[string]string) onepassword.Item {
	item := onepassword.Item{Title: title}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f := &onepassword.ItemField{Label: name, Value: fields[name]}
		if section, label, ok := strings.Cut(name, "/"); ok {
			f.Label = label
			n := slices.IndexFunc(item.Sections, func(s *onepassword.ItemSection) bool { return s.Label == section })
			if n < 0 {
				n = len(item.Sections)
				item.Sections = append(item.Sections, &onepassword.ItemSection{ID: "Section_" + section, Label: section})
			}
			f.Section = &onepassword.ItemSection{ID: item.Sections[n].ID}
		}
		item.Fields = append(item.Fields, f)
	}
	return item
}

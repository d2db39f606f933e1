package onepassword_test

import (
	"errors"
	"testing"

	sdk "github.com/1Password/connect-sdk-go/onepassword"

	"skep/secrets"
	"skep/secrets/secretstest"
)

// An item that was archived is out of the way of the one that has its name now.
func TestArchivedItems(t *testing.T) {
	server := secretstest.NewConnect(token)
	vault := server.Vault("v")
	archived := server.Item(vault, sdk.Item{Title: "i", Fields: []*sdk.ItemField{{Label: "f", Value: "old"}}})
	server.Archive(archived)
	named, byID := parse(t, "op://v/i/f"), parse(t, "op://v/"+archived+"/f")
	client := open(t, server, quick)
	if err := client.Versions(t.Context(), []secrets.Reference{named})[named].Err; !errors.Is(err, secrets.ErrNotFound) {
		t.Errorf("an archived item alone answers to its name: %v", err)
	}
	server.Item(vault, sdk.Item{Title: "i", Fields: []*sdk.ItemField{{Label: "f", Value: "new"}}})
	answers := client.Read(t.Context(), []secrets.Reference{named, byID})
	for r, want := range map[secrets.Reference]string{named: "new", byID: "old"} {
		if got, err := answers[r].Value.Bytes(); string(got) != want || err != nil || answers[r].Err != nil {
			t.Errorf("%s is %q, %v, %v", r, got, err, answers[r].Err)
		}
	}
}

// The names of items are remembered for a time. One that lost its name meanwhile
// is not taken for the one that has it now.
func TestItemThatLostItsName(t *testing.T) {
	for name, lose := range map[string]func(*secretstest.Connect, string){
		"archived": (*secretstest.Connect).Archive,
		"renamed": func(s *secretstest.Connect, id string) {
			s.Edit(id, func(i *sdk.Item) { i.Title = "other" })
		},
		"deleted": (*secretstest.Connect).Delete,
	} {
		t.Run(name, func(t *testing.T) {
			server := secretstest.NewConnect(token)
			vault := server.Vault("v")
			field := func(value string) []*sdk.ItemField { return []*sdk.ItemField{{Label: "f", Value: value}} }
			old := server.Item(vault, sdk.Item{Title: "i", Fields: field("old")})
			client := open(t, server, quick)
			named, byID := parse(t, "op://v/i/f"), parse(t, "op://v/"+old+"/f")
			refs := []secrets.Reference{named, byID}
			if err := client.Read(t.Context(), refs).Err(); err != nil {
				t.Fatal(err)
			}
			lose(server, old)
			if err := client.Read(t.Context(), refs)[named].Err; !errors.Is(err, secrets.ErrNotFound) {
				t.Errorf("without another one: %v", err)
			}
			now := server.Item(vault, sdk.Item{Title: "i", Fields: field("new")})
			answers := client.Read(t.Context(), refs)
			if got, _ := answers[named].Value.Bytes(); string(got) != "new" || answers[named].Item.ID != now {
				t.Errorf("the name gives %q of %v, %v", got, answers[named].Item, answers[named].Err)
			}
			if got, _ := answers[byID].Value.Bytes(); name != "deleted" && string(got) != "old" {
				t.Errorf("the id gives %q, %v", got, answers[byID].Err)
			}
		})
	}
}

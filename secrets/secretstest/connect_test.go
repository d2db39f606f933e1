package secretstest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/1Password/connect-sdk-go/onepassword"
)

// What the specification promises, beyond what our own client asks for.
// https://github.com/1Password/connect/blob/main/docs/openapi/spec.yaml
func TestPublishedInterface(t *testing.T) {
	c := NewConnect("token")
	vault, hidden := c.Vault("Demo Vault"), c.Vault("Private")
	c.Hide(hidden)
	small, large := &onepassword.File{Name: "small.txt"}, &onepassword.File{Name: "large.bin"}
	small.SetContent([]byte("content"))
	large.SetContent(make([]byte, inlineMax+1))
	item := c.Item(vault, onepassword.Item{Title: `Example "Item"`, Fields: []*onepassword.ItemField{{Label: "password", Value: "hunter2"}}, Files: []*onepassword.File{small, large}})
	base := Start(t, c)
	const gone = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
	items, files := "/v1/vaults/"+vault+"/items", "/v1/vaults/"+vault+"/items/"+item+"/files"
	filter := func(path, f string) string { return path + "?filter=" + url.QueryEscape(f) }

	for _, test := range []struct {
		path   string
		status int
		body   string // part of it
		not    string // no part of it
	}{
		{"/heartbeat", 200, ".", ""},
		{"/health", 200, `"service":"sync","status":"ACTIVE"`, ""},
		{"/v1/vaults", 200, "Demo Vault", "Private"},
		{filter("/v1/vaults", `name eq "Demo Vault"`), 200, vault, ""},
		{filter("/v1/vaults", `title eq "Demo Vault"`), 200, vault, ""},
		{filter("/v1/vaults", `name eq "Other"`), 200, "[]", vault},
		{filter("/v1/vaults", `name sw "Demo"`), 400, "Invalid filter", ""},
		{"/v1/vaults/" + vault, 200, `"name":"Demo Vault"`, ""},
		{"/v1/vaults/" + hidden, 403, "vault " + hidden + " is not in scope", ""},
		{"/v1/vaults/" + gone, 404, "vault " + gone + " not found", ""},
		{"/v1/vaults/short", 400, "Invalid Vault UUID", ""},
		{items, 200, `"version":1`, "hunter2"}, // a list has no fields
		{filter(items, `title eq "Example \"Item\""`), 200, item, ""},
		{filter(items, `title eq "Example"`), 200, "[]", item},
		{items + "/" + item, 200, `"value":"hunter2"`, ""},
		{items + "/" + gone, 404, "item " + gone + " not found", ""},
		{items + "/short", 400, "Invalid Item UUID", ""},
		{files, 200, `"size":7`, "Y29udGVudA=="},
		{files + "?inline_files=true", 413, "too large", ""},
		{files + "/" + small.ID + "?inline_files=true", 200, `"content":"Y29udGVudA=="`, ""},
		{files + "/" + large.ID, 200, "large.bin", ""},
		{files + "/" + gone, 404, "file " + gone + " not found", ""},
		{small.ContentPath, 200, "content", "{"},
	} {
		for _, authorized := range []bool{true, false} {
			status, body := get(t, base+test.path, authorized)
			if open := strings.HasPrefix(test.path, "/hea"); !authorized && !open {
				if status != 401 || !strings.Contains(body, `"message":"Invalid token signature"`) {
					t.Errorf("%s without a token: %d %s", test.path, status, body)
				}
				continue
			}
			if status != test.status || !strings.Contains(body, test.body) || test.not != "" && strings.Contains(body, test.not) {
				t.Errorf("%s: %d %.200s; want %d with %q, without %q", test.path, status, body, test.status, test.body, test.not)
			}
			var e onepassword.Error
			if status >= 400 && (json.Unmarshal([]byte(body), &e) != nil || e.StatusCode != status || e.Message == "") {
				t.Errorf("%s: the error is %s", test.path, body)
			}
		}
	}
}

func get(t *testing.T, url string, authorized bool) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorized {
		request.Header.Set("Authorization", "Bearer token")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

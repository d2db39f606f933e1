package onepassword_test

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/1Password/connect-sdk-go/onepassword"
	"golang.org/x/crypto/ssh"

	"skep/secrets"
	"skep/secrets/onepassword"
	"skep/secrets/secretstest"
)

const token = "connect-token-for-tests"

// quick retries without a pause that a test would notice.
var quick = onepassword.Config{RetryPause: time.Millisecond}

func open(t testing.TB, c *secretstest.Connect, config onepassword.Config) *onepassword.Client {
	t.Helper()
	client, err := onepassword.New(secretstest.Start(t, c), onepassword.StaticToken(token), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func TestConformance(t *testing.T) {
	secretstest.Conformance(t, func(t *testing.T, content secretstest.Content) secretstest.Subject {
		server := secretstest.NewConnect(token)
		ids := server.Fill(content)
		return secretstest.Subject{
			Source: open(t, server, quick),
			Set:    func(vault, item, field, value string) { server.Set(ids[vault+"/"+item], field, value) },
		}
	})
}

// rich has an item of every kind of trouble.
func rich(t *testing.T) (*secretstest.Connect, map[string]string) {
	t.Helper()
	c := secretstest.NewConnect(token)
	vault := c.Vault("homelab")
	ids := map[string]string{"vault": vault}
	note := &sdk.File{Name: "key.pem", Section: &sdk.ItemSection{ID: "files"}}
	note.SetContent([]byte("content of the file"))
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	ids["item"] = c.Item(vault, sdk.Item{
		Title:    "Everything",
		Sections: []*sdk.ItemSection{{ID: "add more", Label: ""}, {ID: "sec1", Label: "Admin"}, {ID: "sec2", Label: "Staff"}, {ID: "files", Label: "Files"}},
		Fields: []*sdk.ItemField{
			{ID: "password", Label: "password", Purpose: sdk.FieldPurposePassword, Value: "top"},
			{ID: "f1", Label: "password", Section: &sdk.ItemSection{ID: "sec1"}, Value: "admin's"},
			{ID: "f2", Label: "email", Section: &sdk.ItemSection{ID: "sec1"}, Value: "a@example.com"},
			{ID: "f3", Label: "email", Section: &sdk.ItemSection{ID: "sec2"}, Value: "s@example.com"},
			{ID: "f4", Label: "extra", Section: &sdk.ItemSection{ID: "add more"}, Value: "unlabelled section"},
			{ID: "TOTP_1", Label: "one-time password", Type: sdk.FieldTypeOTP, Value: "otpauth://totp/x?secret=ABC", TOTP: "123456"},
			{ID: "f9", Label: "port", Section: &sdk.ItemSection{ID: "sec1"}, Value: "admin's"},
			{ID: "f10", Label: "port", Value: "in no section"},
			{ID: "f6", Label: "twice", Value: "1"}, {ID: "f7", Label: "twice", Value: "2"},
			{ID: "f8", Label: "private key", Type: sdk.FieldTypeSSHKey, Value: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))},
		},
		Files: []*sdk.File{note},
	})
	ids["file"] = note.ID
	ids["first"] = c.Item(vault, sdk.Item{Title: "double"})
	ids["second"] = c.Item(vault, sdk.Item{Title: "Double"})
	return c, ids
}

func TestFieldsAndFiles(t *testing.T) {
	server, ids := rich(t)
	client := open(t, server, quick)
	for path, want := range map[string]string{
		"homelab/everything/password":                                    "top",
		"homelab/everything/admin/password":                              "admin's",
		"homelab/everything/port":                                        "in no section",
		"homelab/everything/sec1/f1":                                     "admin's",
		"homelab/everything/staff/email":                                 "s@example.com",
		"homelab/everything/extra":                                       "unlabelled section",
		"homelab/everything/one-time password":                           "otpauth://totp/x?secret=ABC",
		"homelab/everything/one-time password?attribute=otp":             "123456",
		"homelab/everything/password?attribute=purpose":                  "PASSWORD",
		"homelab/everything/password?attribute=type":                     "CONCEALED",
		"homelab/everything/f2?attribute=name":                           "email",
		"homelab/everything/admin/email?attribute=id":                    "f2",
		"homelab/everything/key.pem":                                     "content of the file",
		"homelab/everything/files/key.pem?attribute=content":             "content of the file",
		"homelab/everything/key.pem?attribute=size":                      "19",
		"homelab/everything/key.pem?attribute=name":                      "key.pem",
		ids["vault"] + "/" + ids["item"] + "/" + ids["file"]:             "content of the file",
		ids["vault"] + "/" + ids["item"] + "/totp_1?attribute=otp":       "123456",
		"homelab/" + ids["first"] + "/nothing":                           `error: there is no field "nothing" in item ` + ids["first"] + " of vault homelab",
		"homelab/double/password":                                        fmt.Sprintf(`error: 2 items are called "double" in vault homelab: name one by its id, %s or %s`, ids["first"], ids["second"]),
		"homelab/everything/email":                                       `error: 2 fields are called "email" in item everything of vault homelab: name one by its id, f2 or f3`,
		"homelab/everything/twice":                                       "error: name one by its id, f6 or f7",
		"homelab/everything/pasword":                                     `error: there is no field "pasword" in item everything of vault homelab; did you mean password`,
		"homelab/everything/admn/password":                               `error: there is no section "admn" in item everything of vault homelab; did you mean Admin?`,
		"homelab/everything/admin/extra":                                 `error: there is no field "extra" in section admin of item everything`,
		"homelab/evrything/password":                                     `error: there is no item "evrything" in vault homelab; did you mean Everything?`,
		"homlab/everything/password":                                     `error: there is no vault "homlab" in what the Connect token may read; did you mean homelab?`,
		"homelab/everything/password?attribute=otp":                      "error: no such attribute: the field password is no one-time password",
		"homelab/everything/password?attribute=size":                     "error: no such attribute: a field has no size",
		"homelab/everything/key.pem?attribute=otp":                       "error: no such attribute: a file has no otp",
		"homelab/everything/password?ssh-format=openssh":                 "error: ssh-format=openssh: the value is no private key",
		"homelab/everything/private key?attribute=id&ssh-format=openssh": "f8",
	} {
		r := parse(t, "op://"+path)
		answer := client.Read(t.Context(), []secrets.Reference{r})[r]
		got, _ := answer.Value.Bytes()
		if text, isError := strings.CutPrefix(want, "error: "); isError {
			if answer.Err == nil || !strings.Contains(answer.Err.Error(), text) {
				t.Errorf("%s: %v; want %q", r, answer.Err, text)
			}
		} else if answer.Err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", r, got, answer.Err, want)
		}
	}
	r := parse(t, "op://homelab/everything/private key?ssh-format=openssh")
	answer := client.Read(t.Context(), []secrets.Reference{r})[r]
	key, _ := answer.Value.Bytes()
	if _, err := ssh.ParsePrivateKey(key); answer.Err != nil || err != nil || !strings.HasPrefix(string(key), "-----BEGIN OPENSSH") {
		t.Errorf("%v, %v: the key begins %.30q", answer.Err, err, key)
	}
}

// 500 references to 50 items of 5 vaults: a request an item, one a vault, and
// one for the list of vaults.
func TestRequestCount(t *testing.T) {
	const vaults, items, fields = 5, 10, 10
	server, refs := many(t, vaults, items, fields)
	client := open(t, server, quick)

	answers := client.Versions(t.Context(), refs)
	if err := answers.Err(); err != nil || len(answers) != 500 {
		t.Fatalf("%d answers, %v", len(answers), err)
	}
	if got := server.Requests(); len(got) != vaults+1 {
		t.Errorf("versions took %d requests, want %d: %q", len(got), vaults+1, got)
	}
	answers = client.Read(t.Context(), refs)
	if err := answers.Err(); err != nil || len(answers) != 500 {
		t.Fatalf("%d answers, %v", len(answers), err)
	}
	if got := server.Requests(); len(got) != vaults*items {
		t.Errorf("the values took %d requests, want %d", len(got), vaults*items)
	}
	client.Versions(t.Context(), refs)
	if got := server.Requests(); len(got) != vaults {
		t.Errorf("versions again took %d requests, want %d: %q", len(got), vaults, got)
	}
	// From nothing, without versions before.
	client = open(t, server, quick)
	client.Read(t.Context(), refs)
	if got := server.Requests(); len(got) != vaults*items+vaults+1 {
		t.Errorf("the values took %d requests from nothing, want %d", len(got), vaults*items+vaults+1)
	}
}

func many(t testing.TB, vaults, items, fields int) (*secretstest.Connect, []secrets.Reference) {
	server := secretstest.NewConnect(token)
	content := secretstest.Content{}
	var refs []secrets.Reference
	for v := range vaults {
		vault := fmt.Sprintf("vault-%d", v)
		content[vault] = map[string]map[string]string{}
		for i := range items {
			item := fmt.Sprintf("item-%d", i)
			content[vault][item] = map[string]string{}
			for f := range fields {
				field := fmt.Sprintf("field-%d", f)
				content[vault][item][field] = fmt.Sprint(v, i, f)
				refs = append(refs, parse(t, "op://"+vault+"/"+item+"/"+field))
			}
		}
	}
	server.Fill(content)
	return server, refs
}

// An item that is named by title and by id, in a vault that is, is one item.
func TestSpellingsShareARequest(t *testing.T) {
	server := secretstest.NewConnect(token)
	vault := server.Vault("Home")
	item := server.Item(vault, sdk.Item{Title: "Item", Fields: []*sdk.ItemField{{Label: "a", Value: "1"}, {Label: "b", Value: "2"}}})
	refs := []secrets.Reference{
		parse(t, "op://home/item/a"), parse(t, "op://home/item/a"), parse(t, "op://"+vault+"/"+item+"/b"), parse(t, "op://home/"+item+"/a"), parse(t, "op://"+vault+"/item/b"),
	}
	answers := open(t, server, quick).Read(t.Context(), refs)
	if err := answers.Err(); err != nil || len(answers) != 4 {
		t.Errorf("%d answers, %v", len(answers), err)
	}
	if got := server.Requests(); len(got) != 3 {
		t.Errorf("%d requests: %q", len(got), got)
	}
}

func TestMissesAreLookedForOnce(t *testing.T) {
	server, refs := many(t, 1, 2, 1)
	client := open(t, server, quick)
	client.Versions(t.Context(), refs)
	server.Requests()
	var missing []secrets.Reference
	for i := range 5 {
		missing = append(missing, parse(t, fmt.Sprintf("op://vault-0/gone-%d/field", i)))
	}
	if err := client.Read(t.Context(), missing).Err(); !errors.Is(err, secrets.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if got := server.Requests(); len(got) != 1 {
		t.Errorf("five missing items took %q", got)
	}
}

func TestItemReplacedByOneOfItsName(t *testing.T) {
	server := secretstest.NewConnect(token)
	ids := server.Fill(secretstest.Content{"v": {"i": {"f": "old"}}})
	client := open(t, server, quick)
	r := parse(t, "op://v/i/f")
	before := client.Read(t.Context(), []secrets.Reference{r})[r]
	server.Delete(ids["v/i"])
	server.Fill(secretstest.Content{"w": {}})
	server.Item(server.Vault("x"), sdk.Item{Title: "i"}) // of another vault: not meant
	vault := strings.Split(server.Requests()[2], "/")[3]
	now := server.Item(vault, sdk.Item{Title: "i", Fields: []*sdk.ItemField{{Label: "f", Value: "new"}}})
	after := client.Read(t.Context(), []secrets.Reference{r})[r]
	if got, _ := after.Value.Bytes(); after.Err != nil || string(got) != "new" || after.Item.ID != now || before.Item.ID == now {
		t.Errorf("got %q of %v, %v", got, after.Item, after.Err)
	}
}

func TestFaults(t *testing.T) {
	r := []secrets.Reference{parse(t, "op://v/i/f")}
	for name, test := range map[string]struct {
		fault secretstest.Fault
		tries uint
		want  error  // nil: the value comes
		text  string // part of the error
		count int    // requests to the item
	}{
		"a 429 passes":            {secretstest.Fault{Status: 429, Times: 2}, 4, nil, "", 3},
		"a 500 passes":            {secretstest.Fault{Status: 500, Times: 3}, 4, nil, "", 4},
		"a cut connection passes": {secretstest.Fault{Cut: true, Times: 1}, 4, nil, "", 2},
		"503 for good":            {secretstest.Fault{Status: 503, Message: "starting"}, 3, secrets.ErrUnavailable, "1Password Connect answers 503: starting", 3},
		"403 is final":            {secretstest.Fault{Status: 403, Message: "vault is not in scope"}, 4, secrets.ErrDenied, "the Connect token has no access", 1},
		"a 400 is final":          {secretstest.Fault{Status: 400, Message: "what?"}, 4, nil, "1Password Connect answers 400: what?", 1},
		"a slow server":           {secretstest.Fault{Delay: time.Minute}, 2, secrets.ErrUnavailable, "did not answer in time", 2},
		"a token sent back":       {secretstest.Fault{Status: 401, Message: "bad " + token}, 4, secrets.ErrDenied, "bad [redacted]", 1},
	} {
		t.Run(name, func(t *testing.T) {
			server := secretstest.NewConnect(token)
			server.Fill(secretstest.Content{"v": {"i": {"f": "value"}}})
			config := quick
			config.Tries = test.tries
			if test.fault.Delay > 0 {
				config.RequestTimeout = time.Second
			}
			client := open(t, server, config)
			client.Versions(t.Context(), r)
			server.Requests()
			test.fault.Path = "/items/"
			server.Inject(test.fault)
			answer := client.Read(t.Context(), r)[r[0]]
			switch {
			case test.text == "" && answer.Err != nil:
				t.Errorf("got %v", answer.Err)
			case test.text != "" && (answer.Err == nil || !strings.Contains(answer.Err.Error(), test.text)):
				t.Errorf("got %v, want %q", answer.Err, test.text)
			case test.want != nil && !errors.Is(answer.Err, test.want):
				t.Errorf("got %v, want a %v", answer.Err, test.want)
			}
			if answer.Err != nil && strings.Contains(answer.Err.Error(), token) {
				t.Errorf("the error holds the token: %v", answer.Err)
			}
			if got := server.Requests(); len(got) != test.count {
				t.Errorf("%d requests, want %d: %q", len(got), test.count, got)
			}
		})
	}
}

// A redirect would hand the token to whoever the answer names.
func TestRedirectIsNotFollowed(t *testing.T) {
	var asked atomic.Int64
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer thief.Close()
	server := httptest.NewServer(http.RedirectHandler(thief.URL, http.StatusFound))
	defer server.Close()
	client, err := onepassword.New(server.URL, onepassword.StaticToken(token), quick)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	err = client.Versions(t.Context(), []secrets.Reference{parse(t, "op://v/i/f")}).Err()
	if err == nil || !strings.Contains(err.Error(), "1Password Connect answers 302") || asked.Load() != 0 {
		t.Errorf("%v; the other server was asked %d times", err, asked.Load())
	}
}

func TestRetryAfterIsHeeded(t *testing.T) {
	server := secretstest.NewConnect(token)
	server.Fill(secretstest.Content{"v": {"i": {"f": "value"}}})
	client := open(t, server, quick)
	server.Inject(secretstest.Fault{Status: 429, RetryAfter: 60})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	answers := client.Read(ctx, []secrets.Reference{parse(t, "op://v/i/f")})
	if err := answers.Err(); !errors.Is(err, secrets.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if got := server.Requests(); len(got) != 1 { // a pause of 1ms would have had many
		t.Errorf("%d requests: %q", len(got), got)
	}
}

func TestOneBadItemKeepsNothingBack(t *testing.T) {
	server := secretstest.NewConnect(token)
	ids := server.Fill(secretstest.Content{"v": {"good": {"f": "value"}, "bad": {"f": "value"}}})
	client := open(t, server, quick)
	server.Inject(secretstest.Fault{Path: ids["v/bad"], Status: 500})
	good, bad := parse(t, "op://v/good/f"), parse(t, "op://v/bad/f")
	answers := client.Read(t.Context(), []secrets.Reference{good, bad})
	if answers[good].Err != nil || !errors.Is(answers[bad].Err, secrets.ErrUnavailable) {
		t.Errorf("good: %v, bad: %v", answers[good].Err, answers[bad].Err)
	}
}

func TestServerGone(t *testing.T) {
	server, refs := many(t, 1, 50, 1)
	client := open(t, server, onepassword.Config{RetryPause: time.Millisecond, Concurrency: 1, Tries: 2})
	client.Versions(t.Context(), refs)
	server.Requests()
	server.Inject(secretstest.Fault{Cut: true})
	if err := client.Read(t.Context(), refs).Err(); !errors.Is(err, secrets.ErrUnavailable) || !strings.Contains(err.Error(), "1Password Connect cannot be reached") {
		t.Errorf("got %v", err)
	}
	// net/http itself tries once more when an idle connection turns out dead.
	if got := server.Requests(); len(got) > 6 {
		t.Errorf("a server that is gone was asked %d times", len(got))
	}
}

func TestNotReady(t *testing.T) {
	server := secretstest.NewConnect(token)
	server.Inject(secretstest.Fault{Path: "/v1/", Status: 503})
	server.NotReady("sync", "TOKEN_NEEDED")
	client := open(t, server, quick)
	err := client.Versions(t.Context(), []secrets.Reference{parse(t, "op://v/i/f")}).Err()
	if !errors.Is(err, secrets.ErrUnavailable) || !strings.Contains(err.Error(), "1Password Connect is not ready (sync: TOKEN_NEEDED)") {
		t.Errorf("got %v", err)
	}
	if h, err := client.Health(t.Context()); err != nil || h.Version != "1.7.3" || !slices.Equal(h.NotReady, []string{"sync: TOKEN_NEEDED"}) {
		t.Errorf("health is %+v, %v", h, err)
	}
}

func TestExpiredToken(t *testing.T) {
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"exp":1577836800}`))
	old := "eyJhbGciOiJFUzI1NiJ9." + claims + ".c2lnbmF0dXJl"
	client, err := onepassword.New(secretstest.Start(t, secretstest.NewConnect(token)), onepassword.StaticToken(old), quick)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	err = client.Versions(t.Context(), []secrets.Reference{parse(t, "op://v/i/f")}).Err()
	if !errors.Is(err, secrets.ErrDenied) || !strings.Contains(err.Error(), "the Connect token expired on 2020-01-01, make a new one") || strings.Contains(err.Error(), claims) {
		t.Errorf("got %v", err)
	}
}

func TestHiddenVault(t *testing.T) {
	server := secretstest.NewConnect(token)
	server.Hide(server.Vault("private"))
	err := open(t, server, quick).Versions(t.Context(), []secrets.Reference{parse(t, "op://private/i/f")}).Err()
	if !errors.Is(err, secrets.ErrNotFound) || !strings.Contains(err.Error(), `there is no vault "private"`) {
		t.Errorf("got %v", err)
	}
}

func TestTokenFrom(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		env  map[string]string
		want string
	}{
		"variable": {map[string]string{onepassword.TokenVariable: "direct"}, "direct"},
		"file":     {map[string]string{onepassword.TokenFileVariable: file}, "from a file"},
		"both":     {map[string]string{onepassword.TokenFileVariable: file, onepassword.TokenVariable: "x"}, ""},
		"none":     {nil, ""},
	} {
		find, err := onepassword.TokenFrom(func(name string) (string, bool) { v, ok := test.env[name]; return v, ok })
		if test.want == "" {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for range 2 {
			v, err := find()
			if got, _ := v.Bytes(); err != nil || string(got) != test.want {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			v.Wipe()
		}
	}
	// A file that is replaced counts at once.
	find := onepassword.FileToken(file)
	if err := os.WriteFile(file, []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := find(); !errors.Is(err, onepassword.ErrNoToken) {
		t.Errorf("an empty file gives %v", err)
	}
}

func TestAddress(t *testing.T) {
	for _, bad := range []string{"", "connect:8080", "ftp://connect", "http://", "http://user:pa55@connect", "http://user:pa55@con nect"} {
		_, err := onepassword.New(bad, onepassword.StaticToken(token), quick)
		if err == nil || strings.Contains(err.Error(), "pa55") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	for _, fields := range []int{1, 10} {
		b.Run(fmt.Sprintf("references=500/items=%d", 500/fields), func(b *testing.B) {
			server, refs := many(b, 5, 100/fields, fields)
			client := open(b, server, quick)
			for b.Loop() {
				answers := client.Read(b.Context(), refs)
				if err := answers.Err(); err != nil {
					b.Fatal(err)
				}
				answers.Wipe()
			}
			b.ReportMetric(float64(len(server.Requests()))/float64(b.N), "requests/op")
		})
	}
}

func parse(t testing.TB, s string) secrets.Reference {
	t.Helper()
	r, err := secrets.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

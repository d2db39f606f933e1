package salesforce_test

import (
	"fmt"
	"strings"
	"testing"

	"skep/services/controlplane/integration/salesforce"
)

func TestParseAuthURL(t *testing.T) {
	for in, want := range map[string]string{
		"force://id:secret:token@acme.my.salesforce.com":                         "id secret token https://acme.my.salesforce.com",
		"force://id::token@acme.my.salesforce.com\n":                             "id  token https://acme.my.salesforce.com",
		"force://token@acme--dev.sandbox.my.salesforce.com/":                     "PlatformCLI  token https://acme--dev.sandbox.my.salesforce.com",
		"force://3MVG9.a_b-c==:0123==:5Aep861.x_y!-z==@h.example.com:8443":       "3MVG9.a_b-c== 0123== 5Aep861.x_y!-z== https://h.example.com:8443",
		`{"sfdxAuthUrl": "force://id:secret:token@h"}`:                           "id secret token https://h",
		`{"status": 0, "result": {"sfdxAuthUrl": "force://id::token@h", "a":1}}`: "id  token https://h",
	} {
		got, err := salesforce.ParseAuthURL([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		secret, _ := got.ClientSecret.Bytes() // a value that was just made
		token, _ := got.RefreshToken.Bytes()
		if text := fmt.Sprintf("%s %s %s %s", got.ClientID, secret, token, got.LoginURL); text != want {
			t.Errorf("%s is %s; want %s", in, text, want)
		}
		if text := fmt.Sprintf("%v %+v %#v", got, got, got); strings.Contains(text, "token") && strings.Contains(in, "token@h") {
			t.Errorf("it shows: %s", text)
		}
	}
	for _, in := range []string{
		"", "force://", "force://planted", "force://planted@", "force://@h", "force://a:planted@h", "force://a:b:c:planted@h", "force://:b:planted@h", "force://a:b:@h",
		"https://a:b:planted@h", "force://a:b:planted@https://h", "force://a:b:planted@h/path", "force://a:b:planted@h?x", "force://a:b:planted@h h",
		"force://a:b:plan ted@h", "force://a:b:planted@@h", "force://a:b:planted/x@h", "{", `{"sfdxAuthUrl": 1}`, `{"planted": ""}`, "force://a:b:planted@:80", "force://a:b:plantéd@h",
	} {
		if got, err := salesforce.ParseAuthURL([]byte(in)); err == nil {
			t.Errorf("%s is taken: %v", in, got)
		} else if strings.Contains(err.Error(), "plan") {
			t.Errorf("the error repeats: %v", err)
		}
	}
}

func FuzzParseAuthURL(f *testing.F) {
	for _, seed := range []string{"force://id:secret:token@acme.my.salesforce.com", "force://token@h", `{"result": {"sfdxAuthUrl": "force://id::token@h"}}`, "force://a:b:c@@h"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := salesforce.ParseAuthURL(in)
		if err != nil {
			return
		}
		// What was taken says the same when it is written in full.
		secret, _ := got.ClientSecret.Bytes() // a value that was just made
		token, _ := got.RefreshToken.Bytes()
		full := fmt.Sprintf("force://%s:%s:%s@%s", got.ClientID, secret, token, strings.TrimPrefix(got.LoginURL, "https://"))
		again, err := salesforce.ParseAuthURL([]byte(full))
		if err != nil || again.ClientID != got.ClientID || again.LoginURL != got.LoginURL || again.RefreshToken.Len() != len(token) {
			t.Errorf("%q is %q, which is %+v, %v", in, full, again, err)
		}
	})
}

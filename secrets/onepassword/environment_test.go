package onepassword_test

import (
	"strings"
	"testing"

	"skep/secrets/onepassword"
)

func TestFromEnvironment(t *testing.T) {
	for name, test := range map[string]struct {
		set  map[string]string
		some bool
		want string // of the error
	}{
		"none":          {set: map[string]string{"OP_CONNECT_TOKEN": "planted"}},
		"one":           {set: map[string]string{"OP_CONNECT_HOST": "http://127.0.0.1:1", "OP_CONNECT_TOKEN": "planted"}, some: true},
		"no address":    {set: map[string]string{"OP_CONNECT_HOST": "connect", "OP_CONNECT_TOKEN": "planted"}, want: "connect"},
		"two tokens":    {set: map[string]string{"OP_CONNECT_HOST": "http://127.0.0.1:1", "OP_CONNECT_TOKEN": "planted", "OP_CONNECT_TOKEN_FILE": "x"}, want: "unset one"},
		"without token": {set: map[string]string{"OP_CONNECT_HOST": "http://127.0.0.1:1"}, want: "OP_CONNECT_TOKEN"},
	} {
		source, err := onepassword.FromEnvironment(func(name string) (string, bool) { v, ok := test.set[name]; return v, ok }, "test")
		switch {
		case (source != nil) != test.some:
			t.Errorf("%s: %v", name, source)
		case test.want == "" && err != nil, test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v", name, err)
		case err != nil && strings.Contains(err.Error(), "planted"):
			t.Errorf("%s: the error has the token", name)
		}
	}
}

package engine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"skep/services/controlplane/engine"
)

func TestAddressFrom(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("planted\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		settings map[string]string
		tls      bool
		want     string // of the error
	}{
		"plain":      {map[string]string{"SKEP_HATCHET_ADDRESS": "e:7070", "SKEP_HATCHET_TOKEN": "planted"}, false, ""},
		"tls":        {map[string]string{"SKEP_HATCHET_ADDRESS": "e:7070", "SKEP_HATCHET_TOKEN_FILE": file, "SKEP_HATCHET_TLS": "on"}, true, ""},
		"no port":    {map[string]string{"SKEP_HATCHET_ADDRESS": "e"}, false, "not host:port"},
		"no token":   {map[string]string{"SKEP_HATCHET_ADDRESS": "e:1"}, false, "set SKEP_HATCHET_TOKEN_FILE"},
		"no file":    {map[string]string{"SKEP_HATCHET_ADDRESS": "e:1", "SKEP_HATCHET_TOKEN_FILE": file + "x"}, false, "read SKEP_HATCHET_TOKEN_FILE"},
		"odd switch": {map[string]string{"SKEP_HATCHET_ADDRESS": "e:1", "SKEP_HATCHET_TOKEN": "planted", "SKEP_HATCHET_TLS": "yes"}, false, "neither on nor off"},
	} {
		a, err := engine.AddressFrom(func(name string) (string, bool) { v, ok := test.settings[name]; return v, ok })
		switch {
		case test.want != "":
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "planted") {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil || a.Host != "e" || a.Port != 7070 || a.Token != "planted" || (a.TLS != nil) != test.tls:
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

package controller

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"skep/services/ingress/label"
	"skep/services/ingress/route"
)

// What is stored is what comes back.
func TestStored(t *testing.T) {
	for name, s := range map[string]saved{
		"nothing": {Frame: json.RawMessage(`{}`), Sites: map[string]route.Routes{}, Good: map[string]words{}},
		"sites": {
			Frame: json.RawMessage(`{"apps":{}}`),
			Sites: map[string]route.Routes{
				`http://"a".example.com`: {Primary: json.RawMessage(`[{"handle":[]}]`), Errors: json.RawMessage(`[]`)},
				"b.example.com":          {Errors: json.RawMessage(`[1]`)},
				"c.example.com":          {},
			},
			Claims: []label.Claim{{Host: "a.example.com", Stack: "a", Since: time.Unix(1, 0).UTC()}},
			Good:   map[string]words{"service:a_web": {Labels: map[string]string{"caddy": "a.example.com"}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			if err := s.store(path); err != nil {
				t.Fatal(err)
			}
			got, err := load(path)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, &s) {
				t.Errorf("got %+v, want %+v", got, &s)
			}
		})
	}
}

package label

import "testing"

func TestLabelsOfTheIngress(t *testing.T) {
	r := newReader(State{}, Settings{Prefix: "edge"})
	for key, want := range map[string]string{
		"edge": "caddy", "edge.x": "caddy.x", "edge_1": "caddy_1", "edge_12.x.y": "caddy_12.x.y", "edge.": "caddy.",
		"edgex": "", "edge_": "", "edge_x": "", "edge_1x": "", "caddy": "", "edge_ingress_network": "",
	} {
		got := ""
		for key := range r.labels(map[string]string{key: ""}) {
			got = key
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
}

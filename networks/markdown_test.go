package networks

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestMarkdown(t *testing.T) {
	m := Map{
		{Name: "proxy_network", Scope: SharedScope, Subnet: netip.MustParsePrefix("10.128.7.0/24"), Members: []Member{
			{"media-core", "sonarr", "x-ingress"}, {"media-core", "radarr", "x-ingress"}, {"ingress", "caddy", "ingress"},
		}},
		{Name: "postgres", Scope: SharedScope, Owner: "databases", Internal: true, Encrypted: true, Subnet: netip.MustParsePrefix("10.128.9.0/24"), Members: []Member{
			{"media-core", "sonarr", "x-uses"}, {"databases", "postgresql", "owns it"}, {"media-core", "sonarr", "x-uses"},
		}},
		{Name: "media-core_default", Scope: StackScope, Owner: "media-core", Attachable: true, Subnet: netip.MustParsePrefix("10.130.0.0/24"), Members: []Member{
			{"media-core", "sonarr", "default"}, {"media-core", "radarr", "default"}, {"media-core", "radarr", "networks | of the\nfile <b>"},
		}},
		{Name: "ingress_caddy-docker", Scope: ProxyScope, Owner: "ingress", Internal: true, Members: []Member{
			{"ingress", "caddy", "x-docker-api"}, {"ingress", "caddy-docker", "its docker proxy"},
		}},
		{Name: "Spare", Scope: SharedScope},
		{Name: "media_core", Scope: SharedScope, Members: []Member{{"media", "core-x", "a"}, {"media-core", "x", "b"}, {"a", `quo"te`, "c"}}},
	}
	first := m[0].Members[0]
	got := m.Markdown()
	checkGolden(t, "network.md", got)
	if m[0].Name != "proxy_network" || m[0].Members[0] != first {
		t.Error("Markdown reordered its receiver")
	}
	slices.Reverse(m)
	if m.Markdown() != got {
		t.Error("another order of networks gives another page")
	}
}

func TestMarkdownEmpty(t *testing.T) {
	checkGolden(t, "network-empty.md", Map(nil).Markdown())
}

func TestMarkdownLimitsTheDiagram(t *testing.T) {
	cluster := func(stacks, services int, prefix string) Map {
		shared := Overlay{Name: "shared", Scope: SharedScope}
		var m Map
		for i := range stacks {
			stack := fmt.Sprintf("%s%d", prefix, i)
			own := Overlay{Name: Name(stack), Scope: StackScope, Owner: stack}
			for j := range services {
				member := Member{stack, fmt.Sprint(j), "default"}
				own.Members = append(own.Members, member)
				if j == 0 {
					shared.Members = append(shared.Members, member)
				}
			}
			m = append(m, own)
		}
		return append(m, shared)
	}
	long := strings.Repeat("long-", 12)
	for _, test := range []struct {
		stacks, services int
		prefix           string
		edges            int
		says             string
	}{
		{20, 4, "s", 100, "stack_s0"},
		{100, 4, "s", 500, "stack_s0"},
		{100, 5, "s", 100, "Shared networks only"},
		{70, 4, long, 70, "Shared networks only"},
		{501, 1, "s", 0, "too many attachments"},
	} {
		got := cluster(test.stacks, test.services, test.prefix).Markdown()
		if n := strings.Count(got, " --- "); n != test.edges || !strings.Contains(got, test.says) {
			t.Errorf("%d stacks: %d edges, want %d and %q", test.stacks, n, test.edges, test.says)
		}
	}
}

func TestMermaidIDs(t *testing.T) {
	ids := mermaidIDs{ids: map[string]string{}, used: map[string]bool{}}
	for _, test := range []struct {
		kind, name, want string
		isNew            bool
	}{
		{"service", "a/b-c", "service_a_b_c", true},
		{"service", "a-b/c", "service_a_b_c_2", true},
		{"service", "a/b/c", "service_a_b_c_3", true},
		{"service", "a-b/c", "service_a_b_c_2", false},
		{"stack", "end", "stack_end", true},
	} {
		if id, isNew := ids.of(test.kind, test.name); id != test.want || isNew != test.isNew {
			t.Errorf("of(%q, %q) = %q, %v; want %q, %v", test.kind, test.name, id, isNew, test.want, test.isNew)
		}
	}
}

package networks

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func mustPool(t testing.TB, prefix string, bits int) Pool {
	t.Helper()
	p, err := ParsePool(prefix, bits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParsePool(t *testing.T) {
	if got := mustPool(t, "10.128.0.0/10", 24).String(); got != "10.128.0.0/10 cut into /24" {
		t.Errorf("String() = %q", got)
	}
	mustPool(t, "10.0.0.0/24", 24)
	mustPool(t, "0.0.0.0/0", 29)
	for _, test := range []struct {
		prefix string
		bits   int
		want   string
	}{
		{"10.0.0.0", 24, "write one such as 10.128.0.0/10"},
		{"fd00::/8", 24, "not IPv4"},
		{"10.130.0.1/10", 24, "has host bits: write 10.128.0.0/10"},
		{"10.0.0.0/24", 16, "choose a subnet size from /24 to /29"},
		{"10.0.0.0/8", 30, "choose a size from /8 to /29"},
	} {
		if _, err := ParsePool(test.prefix, test.bits); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("ParsePool(%q, %d): %v; want %q", test.prefix, test.bits, err, test.want)
		}
	}
}

// The subnets of deployed networks must not move with a new version of Skep.
func TestAssignStaysAcrossVersions(t *testing.T) {
	got, err := mustPool(t, "10.128.0.0/10", 24).Assign([]Name{"proxy_network", "postgres", "media-core_default"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[Name]netip.Prefix{
		"proxy_network":      netip.MustParsePrefix("10.159.23.0/24"),
		"postgres":           netip.MustParsePrefix("10.179.124.0/24"),
		"media-core_default": netip.MustParsePrefix("10.161.238.0/24"),
	}
	if !maps.Equal(got, want) {
		t.Errorf("Assign = %v, want %v", got, want)
	}
}

func TestAssignPins(t *testing.T) {
	pool := mustPool(t, "10.0.0.0/24", 26)
	pinned := map[Name]netip.Prefix{
		"small":     netip.MustParsePrefix("10.0.0.0/29"),  // shares a slot
		"small-too": netip.MustParsePrefix("10.0.0.32/27"), // with this
		"outside":   netip.MustParsePrefix("192.168.0.0/16"),
		"v6":        netip.MustParsePrefix("fd00::/64"),
		"two-slots": netip.MustParsePrefix("10.0.0.128/25"),
	}
	got, err := pool.Assign([]Name{"outside", "free", "v6", "free"}, pinned)
	want := map[Name]netip.Prefix{
		"outside": pinned["outside"],
		"v6":      pinned["v6"],
		"free":    netip.MustParsePrefix("10.0.0.64/26"),
	}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("Assign = %v, %v; want %v", got, err, want)
	}
}

func TestAssignErrors(t *testing.T) {
	pool := mustPool(t, "10.0.0.0/24", 26)
	pins := func(list ...string) map[Name]netip.Prefix {
		out := map[Name]netip.Prefix{}
		for i, s := range list {
			out[Name(fmt.Sprintf("p%d", i))] = netip.MustParsePrefix(s)
		}
		return out
	}
	for _, test := range []struct {
		pool   Pool
		names  []Name
		pinned map[Name]netip.Prefix
		want   []string
	}{
		{pool, []Name{"a", "b", "c", "d", "e"}, nil, []string{"has 4 subnets, 0 of them under pinned networks, and 5 networks need one: widen the pool"}},
		{pool, []Name{"a"}, pins("10.0.0.0/8"), []string{"4 of them under pinned networks"}},
		{pool, []Name{"a", "b"}, pins("10.0.0.0/26", "10.0.0.65/32", "10.0.0.128/26"), []string{"3 of them under pinned networks"}},
		{pool, nil, pins("10.1.0.0/16", "10.1.2.0/24"), []string{"networks p0 (10.1.0.0/16) and p1 (10.1.2.0/24)"}},
		{pool, nil, pins("10.1.2.0/24", "10.1.2.0/24"), []string{"networks p0 (10.1.2.0/24) and p1 (10.1.2.0/24)"}},
		{pool, nil, pins("10.0.0.0/8", "10.1.0.0/24", "10.2.0.0/24", "11.0.0.0/24"), []string{"p0 (10.0.0.0/8) and p1", "p0 (10.0.0.0/8) and p2"}},
		{pool, nil, pins("9.0.0.0/8", "10.0.0.0/8", "10.1.0.0/24"), []string{"p1 (10.0.0.0/8) and p2"}},
		{pool, nil, pins("10.1.2.3/24"), []string{"network p0: the pinned subnet 10.1.2.3/24 has host bits: write 10.1.2.0/24"}},
		{pool, nil, map[Name]netip.Prefix{"zero": {}}, []string{"network zero: the pinned subnet is not a range"}},
		{Pool{}, []Name{"a"}, nil, []string{"there is no address pool"}},
	} {
		got, err := test.pool.Assign(test.names, test.pinned)
		if err == nil || got != nil {
			t.Errorf("Assign(%v, %v) = %v, %v", test.names, test.pinned, got, err)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("Assign(%v, %v): %v; want %q", test.names, test.pinned, err, want)
			}
		}
	}
	if got, err := (Pool{}).Assign([]Name{"p0"}, pins("10.0.0.0/24")); err != nil || len(got) != 1 {
		t.Errorf("a pinned network needs no pool: %v, %v", got, err)
	}
}

// TestAssignProperties takes random names and pins in pools from empty to full.
func TestAssignProperties(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	collided := 0
	for range 400 {
		bits := 16 + random.IntN(9) // 2 to 512 subnets
		pool := mustPool(t, "10.64.0.0/15", bits)
		pinned := map[Name]netip.Prefix{}
		for i := range random.IntN(4) {
			address := netip.AddrFrom4([4]byte{10, byte(62 + random.IntN(6)), byte(64 * i), 0})
			pinned[Name(fmt.Sprintf("pin%d", i))], _ = address.Prefix(18 + random.IntN(12))
		}
		pins, err := sortPins(pinned)
		if err != nil {
			continue
		}
		free := pool.size() - pool.reserved(pins).count()
		names := slices.Collect(maps.Keys(pinned))
		for i := range random.IntN(free + 1) {
			names = append(names, Name(fmt.Sprintf("net%d", i)))
		}
		before := assign(t, pool, names, pinned)
		checkApart(t, before, pinned)

		random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		if again := assign(t, pool, names, pinned); !maps.Equal(before, again) {
			t.Fatalf("%s: another order of names gives another answer", pool)
		}
		if len(names)-len(pinned) == free {
			continue
		}
		added := Name(fmt.Sprintf("added%d", random.Uint32()))
		after := assign(t, pool, append(names, added), pinned)
		var moved []Name
		for _, name := range names {
			if before[name] != after[name] {
				moved = append(moved, name)
			}
		}
		if wanted := slices.Contains(slices.Collect(maps.Values(before)), after[added]); len(moved) > 0 != wanted {
			t.Fatalf("%s: %s got %s, wanted by another: %v, moved: %v", pool, added, after[added], wanted, moved)
		} else if wanted {
			collided++
		}
	}
	if collided == 0 {
		t.Error("no collision was tried")
	}
}

func assign(t *testing.T, pool Pool, names []Name, pinned map[Name]netip.Prefix) map[Name]netip.Prefix {
	t.Helper()
	got, err := pool.Assign(names, pinned)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, isPinned := pinned[name]; !isPinned && (got[name].Bits() != pool.bits || !pool.prefix.Contains(got[name].Addr())) {
			t.Fatalf("%s: %s got %s", pool, name, got[name])
		}
	}
	return got
}

func checkApart(t *testing.T, got, pinned map[Name]netip.Prefix) {
	t.Helper()
	all := maps.Clone(got)
	maps.Copy(all, pinned)
	if _, err := sortPins(all); err != nil {
		t.Fatalf("subnets overlap: %v", err)
	}
}

func BenchmarkAssign(b *testing.B) {
	for _, size := range []int{80, 5000, 16000} {
		names := make([]Name, size)
		for i := range names {
			names[i] = Name(fmt.Sprintf("stack-%d_default", i))
		}
		pool := mustPool(b, "10.128.0.0/10", 24) // 16,384 subnets
		b.Run(fmt.Sprintf("names=%d", size), func(b *testing.B) {
			for b.Loop() {
				if _, err := pool.Assign(names, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

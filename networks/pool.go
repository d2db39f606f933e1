package networks

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Pool is a range of IPv4 addresses that is cut into subnets of one size, one
// for each overlay network. The zero Pool has none to give.
type Pool struct {
	prefix netip.Prefix
	bits   int // of a subnet
}

// smallest is the longest prefix that leaves an overlay five addresses for
// endpoints, after network, broadcast and gateway.
const smallest = 29

// ParsePool reads a pool, such as 10.128.0.0/10 cut into subnets of 24 bits.
func ParsePool(prefix string, bits int) (Pool, error) {
	p, err := netip.ParsePrefix(prefix)
	switch {
	case err != nil:
		return Pool{}, fmt.Errorf("address pool %q is not a range: write one such as 10.128.0.0/10", prefix)
	case !p.Addr().Is4():
		return Pool{}, fmt.Errorf("address pool %s is not IPv4: overlay networks get IPv4 subnets, write one such as 10.128.0.0/10", p)
	case p != p.Masked():
		return Pool{}, fmt.Errorf("address pool %s has host bits: write %s", p, p.Masked())
	case bits < p.Bits():
		return Pool{}, fmt.Errorf("address pool %s is smaller than one /%d subnet: choose a subnet size from /%d to /%d", p, bits, p.Bits(), smallest)
	case bits > smallest:
		return Pool{}, fmt.Errorf("a /%d subnet is too small for an overlay network: choose a size from /%d to /%d", bits, p.Bits(), smallest)
	}
	return Pool{p, bits}, nil
}

func (p Pool) String() string { return fmt.Sprintf("%s cut into /%d", p.prefix, p.bits) }

// Assign gives each name its pin, or a subnet of the pool. Pins reserve their
// addresses even if their name is not among names, may have any size and may
// lie anywhere, but not over each other.
//
// The subnet follows from the name alone, so that networks come and go without
// moving others; only where two names want the same subnet does the second one,
// in order of names, take the next of its own sequence.
func (p Pool) Assign(names []Name, pinned map[Name]netip.Prefix) (map[Name]netip.Prefix, error) {
	pins, err := sortPins(pinned)
	if err != nil {
		return nil, err
	}
	out := make(map[Name]netip.Prefix, len(names))
	var wanting []Name
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		if prefix, ok := pinned[name]; ok {
			out[name] = prefix
		} else {
			wanting = append(wanting, name)
		}
	}
	if len(wanting) == 0 {
		return out, nil
	}
	if p == (Pool{}) {
		return nil, fmt.Errorf("%d networks need a subnet and there is no address pool: set one, or pin each network", len(wanting))
	}
	reserved := p.reserved(pins)
	if free := p.size() - reserved.count(); len(wanting) > free {
		return nil, fmt.Errorf("address pool %s has %d subnets, %d of them under pinned networks, and %d networks need one: widen the pool or cut it smaller",
			p, p.size(), p.size()-free, len(wanting))
	}
	taken := make(map[uint32]bool, len(wanting))
	for _, name := range wanting {
		probe := p.probe(name)
		slot := probe.next()
		for taken[slot] || reserved.has(slot) {
			slot = probe.next()
		}
		taken[slot] = true
		out[name] = p.subnet(slot)
	}
	return out, nil
}

// size is the number of subnets.
func (p Pool) size() int { return 1 << (p.bits - p.prefix.Bits()) }

func (p Pool) subnet(slot uint32) netip.Prefix {
	var address [4]byte
	binary.BigEndian.PutUint32(address[:], number(p.prefix.Addr())+slot<<(32-p.bits))
	return netip.PrefixFrom(netip.AddrFrom4(address), p.bits)
}

// probe walks over every slot of the pool once, in an order of the name's own.
type probe struct{ slot, step, mask uint32 }

// probe steps by an odd number: that visits all of a power of two.
func (p Pool) probe(name Name) *probe {
	sum := sha256.Sum256([]byte(name))
	return &probe{
		slot: binary.BigEndian.Uint32(sum[0:]),
		step: binary.BigEndian.Uint32(sum[4:]) | 1,
		mask: uint32(p.size() - 1),
	}
}

func (p *probe) next() uint32 {
	slot := p.slot & p.mask
	p.slot += p.step
	return slot
}

// ranges are slots from first to last, sorted and apart from each other.
type ranges []struct{ first, last uint32 }

// reserved are the slots that pins lie in, wholly or in part.
func (p Pool) reserved(pins []pin) ranges {
	var out ranges
	for _, pin := range pins {
		if !pin.prefix.Overlaps(p.prefix) {
			continue
		}
		first, last := uint32(0), uint32(p.size()-1)
		if pin.prefix.Bits() > p.prefix.Bits() {
			shift := 32 - p.bits
			offset := number(pin.prefix.Addr()) - number(p.prefix.Addr())
			first = offset >> shift
			last = (offset + (1<<(32-pin.prefix.Bits()) - 1)) >> shift
		}
		if n := len(out); n > 0 && out[n-1].last >= first {
			continue // two small pins in one slot
		}
		out = append(out, struct{ first, last uint32 }{first, last})
	}
	return out
}

func (r ranges) count() int {
	n := 0
	for _, v := range r {
		n += int(v.last-v.first) + 1
	}
	return n
}

func (r ranges) has(slot uint32) bool {
	i, found := slices.BinarySearchFunc(r, slot, func(v struct{ first, last uint32 }, s uint32) int { return cmp.Compare(v.first, s) })
	return found || i > 0 && r[i-1].last >= slot
}

type pin struct {
	name   Name
	prefix netip.Prefix
}

// sortPins returns pins by address. The error joins one for each pin that
// cannot be.
func sortPins(pinned map[Name]netip.Prefix) ([]pin, error) {
	var pins []pin
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(pinned)) {
		switch prefix := pinned[name]; {
		case !prefix.IsValid():
			problems = append(problems, fmt.Errorf("network %s: the pinned subnet is not a range: write one such as 10.0.5.0/24", name))
		case prefix != prefix.Masked():
			problems = append(problems, fmt.Errorf("network %s: the pinned subnet %s has host bits: write %s", name, prefix, prefix.Masked()))
		default:
			pins = append(pins, pin{name, prefix})
		}
	}
	// The wider of two ranges that begin alike comes first, so a range that
	// overlaps another comes after one that holds it.
	slices.SortStableFunc(pins, func(a, b pin) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
	})
	for i, holder := 1, 0; i < len(pins); i++ {
		if a, b := pins[holder], pins[i]; a.prefix.Overlaps(b.prefix) {
			problems = append(problems, fmt.Errorf("networks %s (%s) and %s (%s) are pinned to the same addresses: move one of them", a.name, a.prefix, b.name, b.prefix))
		} else {
			holder = i
		}
	}
	return pins, errors.Join(problems...)
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

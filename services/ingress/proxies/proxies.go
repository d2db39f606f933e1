// Package proxies tells Caddy whose word on a client's address is taken: that
// of services in front of the ingress, such as a tunnel.
package proxies

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"skep/services/ingress/label"
)

func init() { caddy.RegisterModule(new(Services)) }

// Services are the addresses of services' tasks, and fixed ranges beside them:
//
//	servers {
//		trusted_proxies skep_service cloudflared_cloudflared 192.0.2.0/24
//		client_ip_headers Cf-Connecting-Ip
//	}
//
// So the tunnel is believed, and another service of its network is not. Until
// Docker was asked, the ranges alone are.
type Services struct {
	Services []string       `json:"services,omitempty"`
	Ranges   []netip.Prefix `json:"ranges,omitempty"`

	known atomic.Pointer[known]
}

// lastState is what Docker said last.
var lastState atomic.Pointer[label.State]

type known struct {
	state  *label.State
	ranges []netip.Prefix
}

// Update says where tasks are now.
func Update(s label.State) { lastState.Store(&s) }

// CaddyModule says what Caddy calls it.
func (*Services) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.ip_sources.skep_service", New: func() caddy.Module { return new(Services) }}
}

// UnmarshalCaddyfile reads names of services and ranges.
func (s *Services) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	for d.NextArg() {
		if !strings.Contains(d.Val(), "/") {
			s.Services = append(s.Services, d.Val())
			continue
		}
		fixed, err := netip.ParsePrefix(d.Val())
		if err != nil {
			return d.Errf("range %s: %v", d.Val(), err)
		}
		s.Ranges = append(s.Ranges, fixed)
	}
	if len(s.Services) == 0 {
		return d.ArgErr()
	}
	return nil
}

// GetIPRanges returns the addresses of the moment.
func (s *Services) GetIPRanges(*http.Request) []netip.Prefix {
	state := lastState.Load()
	if state == nil {
		return s.Ranges
	}
	if k := s.known.Load(); k != nil && k.state == state {
		return k.ranges
	}
	k := &known{state: state, ranges: slices.Clone(s.Ranges)}
	for _, name := range s.Services {
		for _, address := range label.Addresses(*state, name) {
			k.ranges = append(k.ranges, netip.PrefixFrom(address, address.BitLen()))
		}
	}
	s.known.Store(k)
	return k.ranges
}

var (
	_ caddyhttp.IPRangeSource = (*Services)(nil)
	_ caddyfile.Unmarshaler   = (*Services)(nil)
)

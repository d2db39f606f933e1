package controller

import (
	"net/http"
	"net/netip"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"skep/services/ingress/label"
)

func init() { caddy.RegisterModule(new(ServiceAddresses)) }

// ServiceAddresses are the addresses of services' tasks, as proxies whose word
// on the client's address is taken:
//
//	servers {
//		trusted_proxies skep_service cloudflared_cloudflared
//		client_ip_headers Cf-Connecting-Ip
//	}
//
// So the tunnel is believed, and another service of its network is not.
type ServiceAddresses struct {
	Services []string `json:"services"`

	known atomic.Pointer[known]
}

// lastState is what Docker said last.
var lastState atomic.Pointer[label.State]

type known struct {
	state  *label.State
	ranges []netip.Prefix
}

func setTrusted(s label.State) { lastState.Store(&s) }

// CaddyModule says what Caddy calls it.
func (*ServiceAddresses) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.ip_sources.skep_service", New: func() caddy.Module { return new(ServiceAddresses) }}
}

// UnmarshalCaddyfile reads the services' names.
func (s *ServiceAddresses) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	s.Services = d.RemainingArgs()
	if len(s.Services) == 0 {
		return d.ArgErr()
	}
	return nil
}

// GetIPRanges returns the addresses of the moment.
func (s *ServiceAddresses) GetIPRanges(*http.Request) []netip.Prefix {
	state := lastState.Load()
	if state == nil {
		return nil
	}
	if k := s.known.Load(); k != nil && k.state == state {
		return k.ranges
	}
	k := &known{state: state}
	for _, name := range s.Services {
		for _, address := range label.Addresses(*state, name) {
			k.ranges = append(k.ranges, netip.PrefixFrom(address, address.BitLen()))
		}
	}
	s.known.Store(k)
	return k.ranges
}

var (
	_ caddyhttp.IPRangeSource = (*ServiceAddresses)(nil)
	_ caddyfile.Unmarshaler   = (*ServiceAddresses)(nil)
)

package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// ParseBase takes the address of an API: https, a host, perhaps a path. It ends
// with a slash.
func ParseBase(raw string, o Options) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil, u.Host == "", u.Hostname() == "", u.Opaque != "":
		return nil, errors.New("is not of the form https://host/path")
	case u.User != nil:
		return nil, errors.New("holds a name or password: those are credentials, leave them out here")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return nil, errors.New("has a query or fragment: leave them out")
	case u.Scheme == "http" && o.Loopback && isLoopback(u.Hostname()):
	case u.Scheme != "https":
		return nil, errors.New("must begin with https://: credentials go there")
	}
	if address, err := netip.ParseAddr(u.Hostname()); err == nil {
		if err := refuse(address, true, o.Loopback); err != nil {
			return nil, err
		}
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	if strings.Contains(u.Path, "//") || strings.Contains(u.Path, "/../") || strings.Contains(u.Path, "/./") || u.RawPath != "" {
		return nil, errors.New("has a path that is not plain: write it as the provider's documentation does")
	}
	return u, nil
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// below says that credentials for base may go to u.
func below(base, u *url.URL) bool {
	return sameOrigin(base, u) && strings.HasPrefix(u.EscapedPath(), base.EscapedPath()) && !strings.Contains(u.Path, "/../")
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"http": "80", "https": "443"}[u.Scheme]
}

// Addresses that hand out a machine's credentials to whoever asks from it, and
// are not link-local: Amazon's over IPv6, Alibaba's.
var metadata = []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200")}

// shared is for carriers (RFC 6598), and for overlays such as Tailscale.
var shared = netip.MustParsePrefix("100.64.0.0/10")

// refuse says why a connection to an address is not made. own is whether the
// operator named the host: a GitLab of one's own stands in a private network,
// and a provider that points us into one is up to no good.
func refuse(a netip.Addr, own, loopback bool) error {
	a = a.Unmap().WithZone("")
	why := ""
	switch {
	case a.IsLoopback():
		if !loopback {
			why = "it is this machine"
		}
	case a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		why = "it is no machine's"
	case a.IsLinkLocalUnicast() || a == metadata[0] || a == metadata[1]:
		why = "it is link-local, or a cloud's metadata service"
	case !own && (a.IsPrivate() || shared.Contains(a)):
		why = "it is in a private network, and not the host that was set"
	}
	if why == "" {
		return nil
	}
	return fmt.Errorf("%w: %s: %s", ErrRefused, a, why)
}

// dial connects to what the guard lets through. It looks at the address that
// the name resolved to, as the connection is made: a name that changes its mind
// gains nothing.
func dial(base *url.URL, o Options) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		host, name := strings.ToLower(host), strings.ToLower(base.Hostname())
		own := host == name || strings.HasSuffix(host, "."+name)
		dialer := net.Dialer{Timeout: 10 * time.Second, Control: func(_, resolved string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(resolved)
			if err != nil {
				return fmt.Errorf("%w: %s", ErrRefused, resolved)
			}
			return refuse(to.Addr(), own, o.Loopback)
		}}
		return dialer.DialContext(ctx, network, address)
	}
}

package fetch

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
)

// guard knows which places the stream may lead to.
type guard struct {
	home    string      // host name, lower case
	local   atomic.Bool // home is in a private network itself: everything goes
	proxies []string    // hosts of the proxies that are in use
}

func newGuard(home *url.URL) *guard {
	g := &guard{}
	if home == nil {
		return g
	}
	g.home = strings.ToLower(home.Hostname())
	g.local.Store(insideName(g.home))
	for i := range 4 {
		u := *home
		if u.Scheme = "http"; i%2 == 1 {
			u.Scheme = "https"
		}
		if i >= 2 {
			u.Host = "host.example" // the proxies of any other place
		}
		if p, err := http.ProxyFromEnvironment(&http.Request{URL: &u}); err == nil && p != nil {
			g.proxies = append(g.proxies, strings.ToLower(p.Hostname()))
		}
	}
	return g
}

// check refuses what is written in a URL.
func (g *guard) check(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" {
		return &PlaceError{fmt.Sprintf("a %q address", clip(u.Scheme))}
	}
	host := strings.ToLower(u.Hostname())
	if host == "" {
		return &PlaceError{"an address without a host"}
	}
	if host != g.home && !g.local.Load() && insideName(host) {
		return &PlaceError{"an address in a private network"}
	}
	return nil
}

func clip(s string) string { return s[:min(len(s), 16)] }

// dial refuses what a name resolves to.
func (g *guard) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	host = strings.ToLower(host)
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil || !inside(ap.Addr()) {
			return nil
		}
		for _, p := range g.proxies {
			if p == host {
				return nil
			}
		}
		if host == g.home {
			g.local.Store(true)
			return nil
		}
		if g.local.Load() {
			return nil
		}
		return &PlaceError{"an address in a private network"}
	}}
	return d.DialContext(ctx, network, addr)
}

// insideName reports whether a host, as written, is certainly no public one.
func insideName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if a, err := netip.ParseAddr(host); err == nil {
		return inside(a)
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".local") || strings.HasSuffix(host, ".internal")
}

// others are blocks that no public host is in and that netip has no word for.
var others = [...]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"),
}

func inside(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast() || a.IsInterfaceLocalMulticast() {
		return true
	}
	for _, p := range others {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

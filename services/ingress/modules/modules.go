// Package modules links the Caddy modules of the ingress. The ingress binary
// and the command line tool both import it, so that labels are checked offline
// by the code that will run them.
package modules

import (
	_ "github.com/caddy-dns/cloudflare"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/mholt/caddy-ratelimit"

	_ "skep/services/ingress/proxies"
	_ "skep/services/ingress/storage"
)

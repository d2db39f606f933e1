package route

import (
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// maintenance answers for a site whose upstream is absent or starting and
// whose own error routes did not.
type maintenance struct {
	page Page
	next caddyhttp.Handler
}

func (m maintenance) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	failed, ok := r.Context().Value(caddyhttp.ErrorCtxKey).(caddyhttp.HandlerError)
	unavailable := ok && (failed.StatusCode == http.StatusBadGateway || failed.StatusCode == http.StatusServiceUnavailable || failed.StatusCode == http.StatusGatewayTimeout)
	if !unavailable || m.page.HTML == "" {
		return m.next.ServeHTTP(w, r)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Retry-After", fmt.Sprintf("%.0f", m.page.RetryAfter.Seconds()))
	w.WriteHeader(http.StatusServiceUnavailable)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write([]byte(m.page.HTML))
	return err
}

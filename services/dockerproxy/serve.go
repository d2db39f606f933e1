package dockerproxy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Serve answers on a listener until ctx is done. Then streams end at once, for
// they would go on for ever, and other requests within a few seconds.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	return serveUntil(ctx, l, h, 3*time.Second)
}

func serveUntil(ctx context.Context, l net.Listener, h http.Handler, grace time.Duration) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    128 << 10, // X-Registry-Config holds a login for each registry
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), stoppingKey{}, ctx)
		},

		DisableGeneralOptionsHandler: true, // "OPTIONS *" is refused like the rest
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		server.Close()
	}
	<-done
	return nil
}

type stoppingKey struct{}

// stopping is done when the server stops.
func stopping(ctx context.Context) context.Context {
	if s, ok := ctx.Value(stoppingKey{}).(context.Context); ok {
		return s
	}
	return ctx
}

// healthPath is none of Docker's: the proxy answers by itself.
const healthPath = "/healthz"

// Status answers at /metrics and /healthz, and nowhere else.
func (p *Proxy) Status() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+healthPath, p.health)
	mux.Handle("GET /metrics", p.metrics)
	return mux
}

// health is that of the proxy and of Docker behind it.
func (p *Proxy) health(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
	defer cancel()
	if err := p.engine.ping(ctx); err != nil {
		p.log.Warn("Docker does not answer", "error", err)
		answerWith(w, http.StatusServiceUnavailable, message{"Docker does not answer"})
		return
	}
	answerWith(w, http.StatusOK, message{"ok"})
}

package dockerproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"time"
)

// New returns a handler that passes to the Docker socket what the policy
// allows. It answers 403 to the rest and logs it.
func New(policy Policy, socket string, log *slog.Logger) http.Handler {
	return &proxy{policy: policy, log: log, daemon: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			t := r.In.Context().Value(targetKey{}).(target)
			r.Out.URL = &url.URL{Scheme: "http", Host: "docker", Path: t.path(), RawQuery: t.query}
			r.Out.Host = "docker"
		},
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "unix", socket)
			},
			DisableCompression: true,
			IdleConnTimeout:    90 * time.Second,
		},
		FlushInterval: -1, // events come one by one
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if errors.Is(err, context.Canceled) {
				return // the consumer left
			}
			log.Error("Docker does not answer", "method", r.Method, "path", r.URL.Path, "error", err)
			http.Error(w, "the Docker API proxy cannot reach Docker", http.StatusBadGateway)
		},
	}}
}

type proxy struct {
	policy Policy
	daemon *httputil.ReverseProxy
	log    *slog.Logger
}

type targetKey struct{}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := p.check(r); err != nil {
		p.log.Warn("refused", "method", r.Method, "uri", r.RequestURI, "remote", r.RemoteAddr, "reason", err)
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	t, err := parseTarget(r.RequestURI)
	if err != nil { // Allows parsed the same URI
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	p.daemon.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), targetKey{}, t)))
}

func (p *proxy) check(r *http.Request) error {
	if r.URL.Scheme != "" || r.URL.Host != "" || r.Method == http.MethodConnect {
		return fmt.Errorf("%w: the request's target is no path", ErrRefused)
	}
	if len(r.Header.Values("Upgrade")) > 0 {
		return fmt.Errorf("%w: a connection cannot be upgraded", ErrRefused)
	}
	if slices.Contains(reads, r.Method) && r.ContentLength != 0 {
		return fmt.Errorf("%w: %s has no body in the Docker API", ErrRefused, r.Method)
	}
	return p.policy.Allows(r.Method, r.RequestURI)
}

// Serve answers on a listener until ctx is done, then lets requests end for a
// few seconds: a stream of events would go on for ever.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,

		DisableGeneralOptionsHandler: true, // "OPTIONS *" is refused like the rest
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		server.Close()
	}
	<-done
	return nil
}

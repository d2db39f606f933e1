package dockerproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
)

// Proxy passes to the Docker socket what its settings allow. It answers 403 to
// the rest and logs it.
type Proxy struct {
	policy   Policy
	show     Show
	narrower *narrower // nil where everything is seen
	learner  *learner  // nil where the policy holds
	engine   engine
	daemon   *httputil.ReverseProxy
	metrics  *metrics
	log      *slog.Logger
}

// New returns a proxy that is ready to serve.
func New(s Settings, log *slog.Logger) *Proxy {
	p := &Proxy{policy: s.Policy, show: s.Show, engine: engine{newTransport(s.Socket)}, metrics: newMetrics(), log: log}
	if !s.Selector.empty() {
		p.narrower = &narrower{s.Selector, p.engine}
	}
	if s.Learn {
		p.learner = newLearner()
	}
	p.daemon = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      p.engine.transport,
		BufferPool:     &buffers{},
		ModifyResponse: p.modify,
		ErrorHandler:   p.failed,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	return p
}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.RequestURI == healthPath {
		p.health(w, r)
		return
	}
	c, err := p.admit(r)
	switch {
	case err == nil:
	case errors.Is(err, ErrRefused):
		p.metrics.count(c, refused)
		p.log.Warn("refused", "method", r.Method, "path", short(pathOf(r.RequestURI)), "remote", r.RemoteAddr, "agent", short(r.UserAgent()), "reason", err.Error())
		answerWith(w, http.StatusForbidden, message{err.Error()})
		return
	case errors.Is(err, errOutside):
		p.metrics.count(c, outside)
		p.log.Info("outside of the selector", "method", r.Method, "path", short(pathOf(r.RequestURI)), "remote", r.RemoteAddr)
		answerWith(w, http.StatusNotFound, message{fmt.Sprintf("No such %s: %s", strings.TrimSuffix(c.route.kind(), "s"), c.name)})
		return
	case errors.Is(err, errNothing):
		p.metrics.count(c, passed)
		answerWith(w, http.StatusOK, nothing(c.route.kind()))
		return
	default:
		p.failed(w, r.WithContext(context.WithValue(r.Context(), callKey{}, c)), err)
		return
	}
	p.metrics.count(c, passed)
	p.metrics.open.Add(1)
	defer p.metrics.open.Add(-1)
	ctx := context.WithValue(r.Context(), callKey{}, c)
	if c.route.lasts() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(stopping(ctx), cancel)()
	}
	p.daemon.ServeHTTP(w, r.WithContext(ctx))
}

type callKey struct{}

// admit says what a request is, and whether it may pass.
func (p *Proxy) admit(r *http.Request) (call, error) {
	t, err := parseTarget(r.RequestURI)
	if err != nil {
		return call{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	c, err := p.policy.admit(r.Method, t)
	if err != nil && (p.learner == nil || c.route == nil) {
		return c, err
	}
	if c.route.reads() && r.ContentLength != 0 {
		return c, fmt.Errorf("%w: %s has no body in the Docker API", ErrRefused, r.Method)
	}
	if protocols := r.Header.Values("Upgrade"); len(protocols) > 1 || len(protocols) == 1 && !strings.EqualFold(protocols[0], c.route.upgrade) {
		return c, fmt.Errorf("%w: %s does not upgrade to %q", ErrRefused, c.route, protocols)
	}
	if !p.show.EnvValues && c.route == top && asksPs(c.target.query) {
		return c, fmt.Errorf("%w: ps_args can print variables: it needs ENV_VALUES=1", ErrRefused)
	}
	if p.learner != nil && p.learner.saw(c) {
		p.log.Info("learned", "request", c.route.String(), "switches", p.learner.switches())
	}
	if p.narrower == nil {
		return c, nil
	}
	return p.narrower.admit(r.Context(), c)
}

var top, _, _ = find(http.MethodGet, []string{"containers", "any", "top"})

// asksPs reports whether a query of top has arguments for the host's ps, or
// may have some for another reader.
func asksPs(query string) bool {
	values, err := url.ParseQuery(query)
	return err != nil || values.Has("ps_args")
}

func rewrite(r *httputil.ProxyRequest) {
	c := r.In.Context().Value(callKey{}).(call)
	r.Out.URL = &url.URL{Scheme: "http", Host: "docker", Path: c.target.path(), RawQuery: c.target.query}
	r.Out.Host = "docker"
	if c.route.answer == described {
		// One form, and not compressed, for it is looked into.
		r.Out.Header.Del("Accept")
		r.Out.Header.Del("Accept-Encoding")
		r.Out.Header.Del("Range")
	}
}

// modify narrows and redacts an answer.
func (p *Proxy) modify(response *http.Response) error {
	ctx := response.Request.Context()
	c := ctx.Value(callKey{}).(call)
	if c.route.answer == described && !c.route.lasts() {
		response.ContentLength = 0 // else ReverseProxy flushes each piece of what is chunked
	}
	narrows := p.narrower != nil && (c.route.narrow == narrowList || c.route.narrow == narrowEvents)
	if response.StatusCode/100 != 2 || c.route.answer != described || p.show.all() && !narrows {
		return nil
	}
	if coding := response.Header.Get("Content-Encoding"); coding != "" {
		return fmt.Errorf("the answer is in the coding %q, and cannot be looked into", coding)
	}
	response.Header.Del("Content-Length")
	if c.route.lasts() {
		response.ContentLength = -1
	}
	if response.Request.Method == http.MethodHead {
		return nil
	}
	if narrows {
		body, err := p.narrower.body(ctx, c, response.Body)
		if err != nil {
			return err
		}
		response.Body = body
	}
	if !p.show.all() {
		response.Body = newRewriter(response.Body, p.show, c.route.kind(), func(n int) { p.metrics.redacted.Add(int64(n)) })
	}
	return nil
}

// body lets through what is seen of a list or of events.
func (n *narrower) body(ctx context.Context, c call, from io.ReadCloser) (io.ReadCloser, error) {
	if c.route.narrow == narrowEvents {
		w, err := n.watch(ctx)
		if err != nil {
			return nil, err
		}
		return filterEvents(from, func(line []byte) (bool, error) { return w.keep(ctx, line) }), nil
	}
	under := ""
	if c.route.kind() == "volumes" {
		under = "Volumes"
	}
	return filterList(from, under, func(entry []byte) (bool, error) { return n.keeps(c, entry) }), nil
}

func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) {
		panic(http.ErrAbortHandler) // the consumer left, or the proxy stops: no answer, and not an empty one
	}
	c, _ := r.Context().Value(callKey{}).(call)
	p.metrics.count(c, failed)
	p.log.Error("Docker does not answer", "method", r.Method, "path", short(r.URL.Path), "error", err)
	answerWith(w, http.StatusBadGateway, message{"the Docker API proxy cannot reach Docker, or not read its answer"})
}

// message is the form of Docker's own errors.
type message struct {
	Message string `json:"message"`
}

func answerWith(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // whoever asked may be gone
}

// nothing is an empty list of a kind.
func nothing(kind string) any {
	if kind == "volumes" {
		return struct{ Volumes, Warnings []string }{[]string{}, []string{}}
	}
	return []string{}
}

// pathOf leaves out the query: that of a build has its arguments.
func pathOf(requestURI string) string {
	path, _, _ := strings.Cut(requestURI, "?")
	return path
}

// short bounds what a client can write into the log.
func short(s string) string {
	if len(s) > 1024 {
		return s[:1024] + "..."
	}
	return s
}

// buffers are lent to copy answers with.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if buffer, ok := b.pool.Get().(*[]byte); ok {
		return *buffer
	}
	return make([]byte, chunk)
}

func (b *buffers) Put(buffer []byte) { b.pool.Put(&buffer) }

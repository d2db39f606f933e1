package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
	"skep/services/controlplane/integration/forgetest"
)

const planted = "planted-token-0123456789"

// api serves handler and calls it with planted credentials.
type api struct {
	client *http.Client
	base   *url.URL
	clock  *forgetest.Clock
	log    *bytes.Buffer
	seen   atomic.Int32
}

func serve(t *testing.T, handler http.HandlerFunc, change func(*integration.Config)) *api {
	t.Helper()
	a := &api{clock: forgetest.NewClock(), log: &bytes.Buffer{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.seen.Add(1)
		w.Header().Set("Date", a.clock.Now().Format(http.TimeFormat))
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	o := a.options()
	base, err := integration.ParseBase(server.URL+"/api", o)
	if err != nil {
		t.Fatal(err)
	}
	a.base = base
	config := integration.Config{Base: base, Authorize: func(r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+planted)
		return nil
	}}
	if change != nil {
		change(&config)
	}
	a.client = integration.NewHTTP(config, o)
	t.Cleanup(func() {
		if strings.Contains(a.log.String(), planted) || strings.Contains(a.log.String(), "query-token") {
			t.Errorf("the log holds a secret: %s", a.log)
		}
	})
	return a
}

func (a *api) options() integration.Options {
	handler := slog.NewJSONHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug})
	return integration.Options{Log: slog.New(handler), Loopback: true, Now: a.clock.Now, Wait: a.clock.Wait}
}

// do is one request; the error has passed CheckResponse.
func (a *api) do(ctx context.Context, method, path, body string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, method, a.base.String()+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	response, err := a.client.Do(request)
	if err != nil {
		return "", integration.Cause(err)
	}
	if err := integration.CheckResponse(response); err != nil {
		return "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return string(content), err
}

func TestRequest(t *testing.T) {
	a := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Method, r.URL, r.UserAgent(), r.Header.Get("Authorization"))
	}, nil)
	got, err := a.do(t.Context(), "GET", "x?query-token=1", "")
	if want := "GET/api/x?query-token=1skepBearer " + planted; err != nil || got != want {
		t.Errorf("the server saw %q, %v; want %q", got, err, want)
	}
	if !strings.Contains(a.log.String(), `"path":"/api/x"`) || !strings.Contains(a.log.String(), `"status":200`) {
		t.Errorf("the log is %s", a.log)
	}
}

// TestRedirects: credentials reach nothing but what lies below the base.
func TestRedirects(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("another server got %s %s with %q", r.Method, r.URL, r.Header)
	}))
	defer other.Close()
	targets := map[string]string{
		"own": "/api/there", "up": "/elsewhere", "dots": "/api/../elsewhere", "host": other.URL + "/api/there",
		"scheme": "//" + strings.TrimPrefix(other.URL, "http://") + "/api/there", "user": "http://evil@example.com/api/", "loop": "/api/loop",
	}
	a := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch name := strings.TrimPrefix(r.URL.Path, "/api/"); {
		case targets[name] != "":
			w.Header().Set("Location", targets[name])
			w.WriteHeader(http.StatusTemporaryRedirect)
		case name == "there":
			fmt.Fprint(w, r.Method, r.Header.Get("Authorization"))
		default:
			t.Errorf("it went to %s", r.URL)
		}
	}, nil)
	if got, err := a.do(t.Context(), "GET", "own", ""); err != nil || got != "GETBearer "+planted {
		t.Errorf("a redirect below the base: %q, %v", got, err)
	}
	for name := range targets {
		if name == "own" {
			continue
		}
		var status *integration.StatusError
		if _, err := a.do(t.Context(), "GET", name, ""); !errors.As(err, &status) || status.Status != 307 || !strings.Contains(err.Error(), "not followed") {
			t.Errorf("%s: %v; want the redirect itself", name, err)
		}
	}
	if _, err := a.do(t.Context(), "POST", "own", "x"); err == nil {
		t.Error("a redirect of a write is followed")
	}
}

// TestForeign: a request elsewhere goes without credentials.
func TestForeign(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("Authorization"), r.Header.Get("Referer"))
	}))
	defer other.Close()
	a := serve(t, func(http.ResponseWriter, *http.Request) {}, nil)
	for _, address := range []string{other.URL + "/api/x", strings.TrimSuffix(a.base.String(), "api/") + "apix"} {
		request, err := http.NewRequestWithContext(t.Context(), "GET", address, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := a.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || len(content) > 0 {
			t.Errorf("%s got %q, %v", address, content, err)
		}
	}
}

func TestRepeats(t *testing.T) {
	for _, test := range []struct {
		method string
		fails  int32 // with a 500
		want   int32 // requests
		fine   bool
	}{
		{"GET", 0, 1, true}, {"GET", 3, 4, true}, {"GET", 9, 4, false}, {"PUT", 1, 2, true}, {"DELETE", 1, 2, true},
		{"POST", 1, 1, false}, {"PATCH", 1, 1, false},
	} {
		var n atomic.Int32
		a := serve(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if string(body) != "the body" {
				t.Errorf("try %d has body %q", n.Load(), body)
			}
			if n.Add(1) <= test.fails {
				w.WriteHeader(http.StatusInternalServerError)
				fmt.Fprintf(w, `{"message": "sorry, %s"}`, r.Header.Get("Authorization"))
			}
		}, nil)
		_, err := a.do(t.Context(), test.method, "x", "the body")
		var later *controlplane.RetryError
		if (err == nil) != test.fine || a.seen.Load() != test.want || err != nil && !errors.As(err, &later) {
			t.Errorf("%s with %d failures: %d requests, %v", test.method, test.fails, a.seen.Load(), err)
		}
		if err != nil && (!strings.Contains(err.Error(), "sorry, [redacted]") || strings.Contains(err.Error(), planted)) {
			t.Errorf("the error is %v", err)
		}
	}
}

// TestLimits has the ways in which providers ask for patience.
func TestLimits(t *testing.T) {
	now := forgetest.NewClock().Now()
	unix := func(d time.Duration) string { return fmt.Sprint(now.Add(d).Unix()) }
	for name, test := range map[string]struct {
		status int
		header map[string]string
		want   time.Duration // 0: it is no limit
	}{
		"seconds":            {429, map[string]string{"Retry-After": "120"}, 2 * time.Minute},
		"date":               {429, map[string]string{"Retry-After": now.Add(time.Minute).Format(http.TimeFormat)}, time.Minute},
		"past":               {429, map[string]string{"Retry-After": now.Add(-time.Minute).Format(http.TimeFormat)}, time.Second},
		"none":               {429, nil, 30 * time.Second},
		"nonsense":           {429, map[string]string{"Retry-After": "-5"}, 30 * time.Second},
		"far":                {429, map[string]string{"Retry-After": "99999999999999"}, 2 * time.Hour},
		"service":            {503, map[string]string{"Retry-After": "60"}, time.Minute},
		"forbidden":          {403, map[string]string{"Retry-After": "60"}, time.Minute},
		"primary":            {403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": unix(20 * time.Minute)}, 20 * time.Minute},
		"draft":              {429, map[string]string{"RateLimit-Remaining": "0", "RateLimit-Reset": "50"}, 50 * time.Second},
		"gitlab":             {429, map[string]string{"RateLimit-Remaining": "0", "RateLimit-Reset": unix(40 * time.Second)}, 40 * time.Second},
		"just forbidden":     {403, map[string]string{"X-RateLimit-Remaining": "17", "X-RateLimit-Reset": unix(time.Minute)}, 0},
		"forbidden nonsense": {403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "soon"}, 0},
	} {
		a := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			for key, value := range test.header {
				w.Header().Set(key, value)
			}
			w.WriteHeader(test.status)
		}, nil)
		_, err := a.do(t.Context(), "POST", "x", "y")
		var later *controlplane.RetryError
		if limited := errors.As(err, &later); limited != (test.want > 0) || limited && later.After != test.want && test.want > 10*time.Second {
			t.Errorf("%s: %v, after %+v; want %s", name, err, later, test.want)
		}
		if test.want == 0 && !errors.Is(err, controlplane.ErrDenied) {
			t.Errorf("%s: %v; want ErrDenied", name, err)
		}
	}
}

// TestShortLimit: what a limit turned down was not done, and may be repeated
// whatever the method.
func TestShortLimit(t *testing.T) {
	var n atomic.Int32
	a := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) == 1 {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}, nil)
	if _, err := a.do(t.Context(), "POST", "x", "y"); err != nil || a.clock.Waited() != 7*time.Second {
		t.Errorf("%v after %s; want to wait 7s", err, a.clock.Waited())
	}
}

// TestLastRequest: when none is left, the next one waits without asking.
func TestLastRequest(t *testing.T) {
	a := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-RateLimit-Remaining", "0")
		w.Header().Set("X-RateLimit-Reset", "900")
	}, nil)
	if _, err := a.do(t.Context(), "GET", "x", ""); err != nil {
		t.Fatal(err)
	}
	_, err := a.do(t.Context(), "GET", "x", "")
	var later *controlplane.RetryError
	if !errors.As(err, &later) || later.After != 15*time.Minute || a.seen.Load() != 1 {
		t.Errorf("%v after %d requests", err, a.seen.Load())
	}
}

func TestRenew(t *testing.T) {
	for _, better := range []bool{true, false} {
		asked := 0
		a := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, func(c *integration.Config) {
			c.Renew = func(r *http.Response) bool {
				asked++
				if r.Request.Header.Get("Authorization") != "Bearer "+planted || r.Request.Context().Err() != nil {
					t.Errorf("the rejected request is %v", r.Request)
				}
				return better
			}
		})
		_, err := a.do(t.Context(), "POST", "x", "y")
		if want := map[bool]int32{true: 2, false: 1}[better]; asked != 1 || a.seen.Load() != want || !errors.Is(err, controlplane.ErrDenied) {
			t.Errorf("asked %d times, %d requests, %v", asked, a.seen.Load(), err)
		}
	}
}

// TestNoCredentials: whoever gets them has tried as often as is good.
func TestNoCredentials(t *testing.T) {
	asked := 0
	a := serve(t, nil, func(c *integration.Config) {
		c.Authorize = func(*http.Request) error {
			asked++
			return &controlplane.RetryError{After: time.Second, Err: errors.New("the token server is down")}
		}
	})
	_, err := a.do(t.Context(), "GET", "x", "")
	var later *controlplane.RetryError
	if !errors.As(err, &later) || asked != 1 || a.seen.Load() != 0 {
		t.Errorf("asked %d times, %d requests, %v", asked, a.seen.Load(), err)
	}
}

func TestTooLarge(t *testing.T) {
	size := 1000
	a := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("x", size)) }, func(c *integration.Config) { c.Limit = 1000 })
	if got, err := a.do(t.Context(), "GET", "x", ""); err != nil || len(got) != 1000 {
		t.Errorf("as long as allowed: %d bytes, %v", len(got), err)
	}
	size++
	if got, err := a.do(t.Context(), "GET", "x", ""); !errors.Is(err, integration.ErrTooLarge) || len(got) != 1000 {
		t.Errorf("longer: %d bytes, %v", len(got), err)
	}
}

// TestSlow: a server that says a byte and no more is given up.
func TestSlow(t *testing.T) {
	done := make(chan struct{})
	a := serve(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "x")
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-done:
		}
	}, func(c *integration.Config) { c.Timeout = 50 * time.Millisecond })
	_, err := a.do(t.Context(), "GET", "x", "")
	close(done)
	if err == nil || !strings.Contains(err.Error(), "no whole answer after 50ms") {
		t.Errorf("a slow answer: %v", err)
	}
}

func TestGoneServer(t *testing.T) {
	a := serve(t, nil, nil)
	server := httptest.NewServer(nil)
	server.Close()
	base, err := integration.ParseBase(server.URL, a.options())
	if err != nil {
		t.Fatal(err)
	}
	a.base, a.client = base, integration.NewHTTP(integration.Config{Base: base}, a.options())
	_, err = a.do(t.Context(), "GET", "x?query-token=1", "")
	var later *controlplane.RetryError
	if !errors.As(err, &later) || strings.Contains(err.Error(), "query-token") || a.clock.Waited() == 0 {
		t.Errorf("nobody listens: %v after %s; want a RetryError without the query", err, a.clock.Waited())
	}
}

func TestParseBase(t *testing.T) {
	for raw, want := range map[string]string{
		"https://github.example.com/api/v3": "https://github.example.com/api/v3/", "https://api.github.com": "https://api.github.com/",
		"https://10.1.2.3:8443/": "https://10.1.2.3:8443/", "https://[fd00::1]/x/": "https://[fd00::1]/x/",
		"http://127.0.0.1:80": "", "http://github.example.com": "", "ftp://x": "", "https://": "", "": "", "github.com": "", "https:github.com": "",
		"https://u@github.com": "", "https://github.com/?a=b": "", "https://github.com/#x": "", "https://github.com/?": "", "https://github.com/a/../b": "", "https://github.com/a//b": "",
		"https://github.com/%2e%2e/": "", "https://127.0.0.1/": "", "https://[::1]/": "", "https://169.254.169.254/": "", "https://0.0.0.0/": "", "https://[::ffff:127.0.0.1]/": "",
		"https://[fd00:ec2::254]/": "",
	} {
		got, err := integration.ParseBase(raw, integration.Options{})
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("%s: %v, %v; want %q", raw, got, err, want)
		}
	}
	for _, raw := range []string{"http://127.0.0.1:80", "http://[::1]/", "http://localhost:1/x"} {
		if _, err := integration.ParseBase(raw, integration.Options{Loopback: true}); err != nil {
			t.Errorf("%s with loopback: %v", raw, err)
		}
	}
	if _, err := integration.ParseBase("http://example.com", integration.Options{Loopback: true}); err == nil {
		t.Error("http to elsewhere is taken where loopback is allowed")
	}
}

// TestGuard: a name that resolves to this machine is refused as the connection
// is made.
func TestGuard(t *testing.T) {
	reached := false
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer server.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "https://"), ":")
	base, err := integration.ParseBase("https://localhost:"+port, integration.Options{})
	if err != nil {
		t.Fatal(err)
	}
	client := integration.NewHTTP(integration.Config{Base: base}, integration.Options{})
	for _, address := range []string{base.String(), "https://127.0.0.1:" + port + "/"} {
		_, err = client.Get(address)
		var later *controlplane.RetryError
		if !errors.Is(err, integration.ErrRefused) || errors.As(err, &later) || reached {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := client.Get("http://localhost:" + port); !errors.Is(err, integration.ErrRefused) {
		t.Errorf("away from https: %v", err)
	}
}

func TestRefuse(t *testing.T) {
	for address, want := range map[string][2]bool{ // refused of the operator's own host, of another
		"140.82.121.5": {false, false}, "2606:50c0::1": {false, false}, "10.0.0.1": {false, true}, "192.168.1.1": {false, true}, "fd12::1": {false, true}, "100.64.1.1": {false, true},
		"127.0.0.1": {true, true}, "::1": {true, true}, "::ffff:10.0.0.1": {false, true}, "::ffff:169.254.169.254": {true, true}, "169.254.169.254": {true, true}, "fe80::1": {true, true},
		"0.0.0.0": {true, true}, "::": {true, true}, "224.0.0.1": {true, true}, "255.255.255.255": {true, true}, "fd00:ec2::254": {true, true}, "100.100.100.200": {true, true},
	} {
		for i, own := range []bool{true, false} {
			if err := integration.Refuse(netip.MustParseAddr(address), own, false); errors.Is(err, integration.ErrRefused) != want[i] {
				t.Errorf("%s, own %t: %v", address, own, err)
			}
		}
	}
}

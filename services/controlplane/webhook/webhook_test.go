package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"skep/services/controlplane"
)

func TestGoodDeliveries(t *testing.T) {
	f := newFixture(t)
	messages := good(f.now)
	for i, name := range slices.Sorted(maps.Keys(messages)) {
		m := messages[name]
		w := f.send(m)
		var answer struct {
			ID        int64
			Duplicate *bool
		}
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != 200 || answer.ID != int64(i+1) || answer.Duplicate == nil || *answer.Duplicate {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
			continue
		}
		d := f.all()[i]
		if string(d.Body) != m.body || d.State != controlplane.DeliveryStored || d.Received != f.now || d.Delivery == "" || d.Source == 0 {
			t.Errorf("%s: stored %+v", name, d)
		}
		again := f.send(m)
		if again.Code != 200 || !strings.Contains(again.Body.String(), `"duplicate":true`) || len(f.all()) != i+1 {
			t.Errorf("%s again: %d %s", name, again.Code, again.Body)
		}
	}
	d := f.all()[0]
	if d.Delivery != "5f3c7e0a/7" || d.Event != "git.push" {
		t.Errorf("Azure DevOps' delivery is %q, %q", d.Delivery, d.Event)
	}
	if n := f.counted(t, "github", duplicate); n != 1 {
		t.Errorf("%v duplicates counted", n)
	}
}

// Nothing that proves a delivery is stored, logged or answered.
func TestNoSecretLeaves(t *testing.T) {
	f := newFixture(t)
	for _, m := range good(f.now) {
		f.send(m)
		m.body += " "
		if w := f.send(m); strings.Contains(w.Body.String(), plainSecret) {
			t.Error(w.Body)
		}
	}
	f.away = errors.New("database is away")
	f.send(gitHubMessage("late", "{}"))
	kept, err := json.Marshal(f.all())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{plainSecret, standardSecret, "sha256=", "v1,", "Basic ", "whsec"} {
		for what, where := range map[string]string{"store": string(kept), "log": f.log.String()} {
			if strings.Contains(where, text) {
				t.Errorf("the %s has %q", what, text)
			}
		}
	}
	if !strings.Contains(f.log.String(), `"delivery":"72d3162e-cc78-11e3-81ab-4c9367dc0958"`) || strings.Contains(f.log.String(), "refs/heads") {
		t.Errorf("the log is not what it should be:\n%s", f.log)
	}
}

func TestRefusals(t *testing.T) {
	const sha1 = "sha1=7d38cdd689735b008b3c702edd92eea23791c5f6"
	change := func(f func(*http.Request)) func(*http.Request) { return f }
	drop := func(name string) func(*http.Request) {
		return change(func(r *http.Request) { r.Header.Del(name) })
	}
	set := func(name string, values ...string) func(*http.Request) {
		return change(func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values })
	}
	at := func(path string) func(*http.Request) {
		return change(func(r *http.Request) {
			u, err := url.ParseRequestURI(path)
			if err != nil {
				panic(err)
			}
			r.URL = u
		})
	}
	signature := gitHubMessage("1", "{}").header.Get(headerGitHub)
	for name, c := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"no signature":                    {drop(headerGitHub), 401},
		"empty signature":                 {set(headerGitHub, ""), 401},
		"SHA-1 alone":                     {func(r *http.Request) { r.Header.Del(headerGitHub); r.Header.Set("X-Hub-Signature", sha1) }, 401},
		"SHA-1 in the place of SHA-256":   {set(headerGitHub, sha1), 401},
		"signature in capitals":           {set(headerGitHub, "sha256="+strings.ToUpper(signature[7:])), 401},
		"signature with a space":          {set(headerGitHub, signature+" "), 401},
		"two signatures in one":           {set(headerGitHub, signature+","+signature), 401},
		"two signature headers":           {set(headerGitHub, signature, signature), 400},
		"a wrong and a right one":         {set(headerGitHub, "sha256=00", signature), 400},
		"two delivery headers":            {set("X-GitHub-Delivery", "a", "b"), 400},
		"two events":                      {set("X-GitHub-Event", "ping", "push"), 400},
		"two content types":               {set("Content-Type", "application/json", "application/json"), 400},
		"no delivery id":                  {drop("X-GitHub-Delivery"), 400},
		"delivery id with a line end":     {set("X-GitHub-Delivery", "a\r\nb"), 400},
		"long delivery id":                {set("X-GitHub-Delivery", strings.Repeat("a", 201)), 400},
		"no event":                        {drop("X-GitHub-Event"), 400},
		"long event":                      {set("X-GitHub-Event", strings.Repeat("a", 101)), 400},
		"another provider's proof":        {func(r *http.Request) { r.Header.Del(headerGitHub); r.Header.Set(headerGitLab, plainSecret) }, 401},
		"GET":                             {func(r *http.Request) { r.Method = "GET" }, 405},
		"PUT":                             {func(r *http.Request) { r.Method = "PUT" }, 405},
		"form":                            {set("Content-Type", "application/x-www-form-urlencoded"), 415},
		"no content type":                 {drop("Content-Type"), 415},
		"UTF-16":                          {set("Content-Type", "application/json; charset=utf-16"), 415},
		"UTF-8":                           {set("Content-Type", "Application/JSON; charset=UTF-8"), 200},
		"gzip":                            {set("Content-Encoding", "gzip"), 415},
		"identity":                        {set("Content-Encoding", "identity"), 415},
		"unknown source":                  {at(Path + "github/other"), 404},
		"the default by name":             {at(Path + "github/default"), 200},
		"unknown provider":                {at(Path + "gitea"), 404},
		"no provider":                     {at(Path), 404},
		"no source":                       {at(Path + "github/"), 404},
		"another source's provider":       {at(Path + "generic"), 401},
		"dots":                            {at(Path + "github/../github"), 404},
		"encoded dots":                    {at(Path + "github/%2e%2e"), 404},
		"encoded slash":                   {at(Path + "github%2fdefault"), 404},
		"encoded letter":                  {at(Path + "github/d%65fault"), 404},
		"encoded NUL":                     {at(Path + "github/default%00"), 404},
		"capitals":                        {at(Path + "GitHub"), 404},
		"capital source":                  {at(Path + "github/Default"), 404},
		"double slash":                    {at(Path + "/github"), 404},
		"one more segment":                {at(Path + "github/default/x"), 404},
		"matrix parameters":               {at(Path + "github/default;x=1"), 404},
		"a query does not matter":         {at(Path + "github?source=other"), 200},
		"method override does not matter": {set("X-HTTP-Method-Override", "GET"), 200},
	} {
		f := newFixture(t)
		r := gitHubMessage("1", "{}").request()
		c.change(r)
		w := f.serve(r)
		if w.Code != c.status {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if stored := len(f.all()); (stored == 1) != (c.status == 200) {
			t.Errorf("%s: %d stored", name, stored)
		}
		if c.status == 200 {
			continue
		}
		var problem struct {
			Type, Title string
			Status      int
		}
		if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil || problem.Status != c.status || problem.Title == "" ||
			w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: no problem: %s", name, w.Body)
		}
		if c.status == 405 && w.Header().Get("Allow") != "POST" {
			t.Errorf("%s: Allow is %q", name, w.Header().Get("Allow"))
		}
	}
}

// What a replay proves and what it does not: the same body in another form is
// another body.
func TestReencodedBody(t *testing.T) {
	f := newFixture(t)
	const body = `{"ref":"refs/heads/main","after":"é"}`
	m := gitHubMessage("1", body)
	for _, other := range []string{
		`{"after":"é","ref":"refs/heads/main"}`, `{"ref":"refs\/heads\/main","after":"é"}`, `{"ref":"refs/heads/main","after":"\u00e9"}`,
		body + "\n", " " + body, "\ufeff" + body, strings.ReplaceAll(body, ":", ": "), `{"ref":"refs/heads/main","after":"e` + "\u0301" + `"}`, "",
	} {
		m.body = other
		if w := f.send(m); w.Code != http.StatusUnauthorized {
			t.Errorf("%q: %d", other, w.Code)
		}
	}
}

func TestSize(t *testing.T) {
	const limit = 100_000
	f := newFixture(t, func(o *Options) { o.Limits = map[controlplane.Provider]int64{controlplane.GitHub: limit} })
	body := strings.Repeat(" ", limit-2) + "{}"
	for _, c := range []struct {
		name    string
		body    string
		chunked bool
		status  int
	}{
		{"all that may be", body, false, 200},
		{"in chunks", body, true, 200},
		{"too large", body + " ", false, 413},
		{"too large in chunks", body + " ", true, 413},
	} {
		m := gitHubMessage(strings.ReplaceAll(c.name, " ", "-"), c.body)
		r := m.request()
		if c.chunked {
			r.ContentLength = -1
		}
		if w := f.serve(r); w.Code != c.status {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
	}
	for _, d := range f.all() {
		if string(d.Body) != body {
			t.Errorf("%s lost bytes on the way: %d", d.Delivery, len(d.Body))
		}
	}
	// The length alone is enough: nothing of the body is read.
	r := gitHubMessage("announced", "{}").request()
	r.Body = io.NopCloser(panicReader{})
	r.ContentLength = limit + 1
	if w := f.serve(r); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("announced: %d", w.Code)
	}
	if !f.handler.budget.free.TryAcquire(f.handler.budget.size) {
		t.Error("memory was not given back")
	}
}

type panicReader struct{}

func (panicReader) Read([]byte) (int, error) { panic("read") }

// Bodies in flight share a bounded memory, and who waits for a slow sender
// holds little of it.
func TestMemory(t *testing.T) {
	const limit = 1 << 20
	f := newFixture(t, func(o *Options) {
		o.Memory = 2 * limit
		o.Limits = map[controlplane.Provider]int64{}
		for _, p := range controlplane.Providers {
			o.Limits[p] = limit
		}
	})
	// A sender that announces the most and sends a little.
	reader, writer := io.Pipe()
	slow := gitHubMessage("slow", "").request()
	slow.Body, slow.ContentLength = reader, limit
	done := make(chan int)
	go func() { done <- f.serve(slow).Code }()
	if _, err := writer.Write(bytes.Repeat([]byte("x"), 1000)); err != nil { // until it is read
		t.Fatal(err)
	}
	if !f.handler.budget.free.TryAcquire(2*limit - firstBuffer) {
		t.Error("what was announced is held")
	}
	// Nothing is left: whoever comes is told to come again.
	w := f.send(gitHubMessage("2", "{}"))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("full: %d %v", w.Code, w.Header())
	}
	f.handler.budget.free.Release(2*limit - firstBuffer)
	if w := f.send(gitHubMessage("2", "{}")); w.Code != 200 {
		t.Errorf("after that: %d", w.Code)
	}
	writer.CloseWithError(errors.New("gone"))
	if code := <-done; code != http.StatusBadRequest {
		t.Errorf("aborted: %d", code)
	}
	if !f.handler.budget.free.TryAcquire(2 * limit) {
		t.Error("memory was not given back")
	}
	if _, err := New(Options{Memory: limit, Limits: map[controlplane.Provider]int64{controlplane.GitHub: limit}}); err == nil {
		t.Error("a limit that does not fit is taken")
	}
}

func TestDatabaseAway(t *testing.T) {
	f := newFixture(t)
	f.away = errors.New("connection refused by 10.0.0.5:5432")
	check := func(when string) {
		t.Helper()
		w := f.send(gitHubMessage("1", "{}"))
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "10.0.0.5") {
			t.Errorf("%s: %d %v %s", when, w.Code, w.Header(), w.Body)
		}
	}
	check("when the source is looked up")
	f.away = nil
	if w := f.send(gitHubMessage("0", "{}")); w.Code != 200 { // and the source is known
		t.Fatal(w.Code)
	}
	f.away = errors.New("connection refused by 10.0.0.5:5432")
	check("when the delivery is stored")
	f.away = nil
	if w := f.send(gitHubMessage("1", "{}")); w.Code != 200 || !strings.Contains(w.Body.String(), `"duplicate":false`) {
		t.Errorf("sent again: %d %s", w.Code, w.Body)
	}
}

// Who hangs up once all is sent has delivered.
func TestSenderGone(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.serve(gitHubMessage("1", "{}").request().WithContext(ctx))
	if len(f.all()) != 1 {
		t.Error("the delivery was dropped with its sender")
	}
}

func TestSourcesAreRemembered(t *testing.T) {
	f := newFixture(t)
	ask := func(m message, status, asked int) {
		t.Helper()
		if w := f.send(m); w.Code != status || f.asked != asked {
			t.Errorf("%d after %d questions, want %d after %d", w.Code, f.asked, status, asked)
		}
	}
	stranger := gitHubMessage("1", "{}")
	stranger.path = Path + "github/other"
	ask(gitHubMessage("1", "{}"), 200, 1)
	ask(gitHubMessage("2", "{}"), 200, 1)
	ask(stranger, 404, 2)
	ask(stranger, 404, 2)

	f.put(77, controlplane.GitHub, DefaultSource, "another-secret-of-it")
	ask(gitHubMessage("3", "{}"), 200, 2)
	f.handler.Forget(controlplane.GitHub, DefaultSource)
	ask(gitHubMessage("4", "{}"), 401, 3)
	f.put(78, controlplane.GitHub, DefaultSource, plainSecret)
	f.now = f.now.Add(remember)
	ask(gitHubMessage("5", "{}"), 200, 4)

	f.sources[sourceKey{controlplane.GitHub, DefaultSource}] = controlplane.Source{ID: 78, Disabled: true}
	f.handler.Forget(controlplane.GitHub, DefaultSource)
	ask(gitHubMessage("6", "{}"), 404, 5)
	f.sources[sourceKey{controlplane.GitHub, DefaultSource}] = controlplane.Source{ID: 78}
	f.handler.Forget(controlplane.GitHub, DefaultSource)
	ask(gitHubMessage("7", "{}"), 401, 6)
	if !strings.Contains(f.log.String(), "there is no secret") {
		t.Error("the log does not say why nothing is verified")
	}
}

// An answer that was asked for before Forget is not kept after it.
func TestForgetWhileAsking(t *testing.T) {
	f := newFixture(t)
	c := f.handler.sources
	slow := forgetful{f.memory, func() { c.forget(controlplane.GitHub, DefaultSource) }}
	c.sources = slow
	if _, err := c.get(t.Context(), controlplane.GitHub, DefaultSource); err != nil {
		t.Fatal(err)
	}
	if len(c.entries) != 0 {
		t.Error("an answer from before is kept")
	}
}

type forgetful struct {
	*memory
	forget func()
}

func (f forgetful) Source(ctx context.Context, p controlplane.Provider, n controlplane.Name) (controlplane.Source, error) {
	defer f.forget()
	return f.memory.Source(ctx, p, n)
}

func TestNamesThatAreTriedDoNotFillTheMemory(t *testing.T) {
	f := newFixture(t)
	c := f.handler.sources
	for i := range 2 * maxKnown {
		name := DefaultSource
		if i > 0 {
			name = controlplane.Name(fmt.Sprint("tried-", i))
		}
		if _, err := c.get(t.Context(), controlplane.GitHub, name); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.entries) > maxKnown {
		t.Errorf("%d names are kept", len(c.entries))
	}
	if k, ok := c.entries[sourceKey{controlplane.GitHub, DefaultSource}]; !ok || k.id == 0 {
		t.Error("the real source was dropped for made-up ones")
	}
}

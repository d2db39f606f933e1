package dockerproxy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// twoStacks is an engine with the stacks media and blog. It ignores filters,
// as a hostile order of labels would make it, but keeps them.
type twoStacks struct {
	mu      sync.Mutex
	filters map[string]string // the last ones of a path
	gone    map[string]bool   // ids that were removed
	events  chan string
}

func (e *twoStacks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	e.filters[r.URL.Path] = r.URL.Query().Get("filters")
	e.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	parts := strings.Split(r.URL.Path[1:], "/")
	kind := parts[0]
	switch {
	case kind == "events":
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		for {
			select {
			case line, ok := <-e.events:
				if !ok {
					return
				}
				fmt.Fprintln(w, line)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	case len(parts) == 1 || parts[1] == "json":
		var list []any
		for _, stack := range []string{"media", "blog"} {
			list = append(list, e.entry(kind, stack))
		}
		if kind == "volumes" {
			json.NewEncoder(w).Encode(map[string]any{"Warnings": []string{"w"}, "Volumes": list})
			return
		}
		json.NewEncoder(w).Encode(list)
	default:
		for _, stack := range []string{"media", "blog"} {
			id := kind + "-" + stack
			e.mu.Lock()
			gone := e.gone[id]
			e.mu.Unlock()
			if gone || parts[1] != id && parts[1] != stack+"_web" {
				continue
			}
			if len(parts) > 2 && parts[2] != "json" || r.Method != http.MethodGet {
				fmt.Fprintf(w, "{\"did\":%q}", r.Method+" "+r.URL.Path)
				return
			}
			json.NewEncoder(w).Encode(e.description(kind, stack))
			return
		}
		http.Error(w, `{"message":"no such thing"}`, http.StatusNotFound)
	}
}

func (e *twoStacks) entry(kind, stack string) map[string]any {
	d := e.description(kind, stack)
	if kind == "containers" {
		d["Labels"] = d["Config"].(map[string]any)["Labels"]
		delete(d, "Config")
	}
	return d
}

func (*twoStacks) description(kind, stack string) map[string]any {
	labels := map[string]string{"com.docker.stack.namespace": stack, "tier": "app"}
	d := map[string]any{"ID": kind + "-" + stack}
	switch kind {
	case "containers":
		d["Config"] = map[string]any{"Labels": labels}
	case "volumes":
		d = map[string]any{"Name": kind + "-" + stack, "Labels": labels}
	case "networks":
		d["Labels"] = labels
	case "tasks":
		d["ServiceID"] = "services-" + stack
	case "exec":
		d["ContainerID"] = "containers-" + stack
	default:
		d["Spec"] = map[string]any{"Name": stack + "_web", "Labels": labels}
	}
	return d
}

// narrowed runs a proxy in front of both stacks.
func narrowed(t *testing.T, env ...string) (*twoStacks, string) {
	t.Helper()
	e := &twoStacks{filters: map[string]string{}, gone: map[string]bool{}, events: make(chan string)}
	d := startHandler(t, e)
	env = append([]string{"SELECTOR=com.docker.stack.namespace=media", "POST=1", "LOGS=1", "ATTACH=1", "EXPORT=1", "ARCHIVE=1"}, env...)
	for _, v := range Variables {
		if v.Group == Sections {
			env = append(env, v.Name+"=1")
		}
	}
	return e, "http://" + serve(t, d, t.Output(), env...)
}

func fetch(t *testing.T, method, url string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %v after %q", method, url, err, body)
	}
	return response.StatusCode, string(body)
}

func TestNarrowedLists(t *testing.T) {
	_, at := narrowed(t)
	for _, path := range []string{"/containers/json", "/containers/json?all=1", "/services", "/tasks", "/networks", "/volumes", "/configs", "/secrets",
		"/services?filters=" + url.QueryEscape(`{"label":["tier=app"]}`),
		"/tasks?filters=" + url.QueryEscape(`{"service":{"media_web":true}}`),
		"/containers/json?filters=" + url.QueryEscape(`{"label":{"com.docker.stack.namespace=media":true}}`),
	} {
		status, body := fetch(t, "GET", at+path)
		if status != 200 || !strings.Contains(body, "-media") || strings.Contains(body, "blog") || !json.Valid([]byte(body)) {
			t.Errorf("%s: got %d %s, want what is media's alone", path, status, body)
		}
	}
	for path, want := range map[string]string{
		// A value of the client's own must not stand in the place of ours.
		"/services?filters=" + url.QueryEscape(`{"label":["com.docker.stack.namespace=blog"]}`): "[]",
		"/volumes?filters=" + url.QueryEscape(`{"label":["com.docker.stack.namespace=blog"]}`):  `{"Volumes":[],"Warnings":[]}`,
		"/tasks?filters=" + url.QueryEscape(`{"service":["blog_web"]}`):                         "[]",
	} {
		if status, body := fetch(t, "GET", at+path); status != 200 || strings.TrimSpace(body) != want {
			t.Errorf("%s: got %d %s, want %s", path, status, body, want)
		}
	}
	for _, query := range []string{"?filters=%7B%7D&filters=%7B%7D", "?filters=no", "?filters=%7B%7D;x", "?%zz"} {
		if status, body := fetch(t, "GET", at+"/services"+query); status != 403 {
			t.Errorf("%s: got %d %s, want 403", query, status, body)
		}
	}
	if status, body := fetch(t, "HEAD", at+"/services"); status != 200 || body != "" {
		t.Errorf("HEAD: got %d %q", status, body)
	}
}

func TestNarrowedFilters(t *testing.T) {
	e, at := narrowed(t)
	for path, want := range map[string]map[string]set{
		"/services?filters=" + url.QueryEscape(`{"label":["tier","com.docker.stack.namespace"],"mode":["global"]}`): {
			"label": {"tier": true, "com.docker.stack.namespace=media": true}, "mode": {"global": true},
		},
		"/containers/json": {"label": {"com.docker.stack.namespace=media": true}},
		"/tasks?filters=" + url.QueryEscape(`{"desired-state":{"running":true}}`): {
			"service": {"services-media": true}, "desired-state": {"running": true},
		},
	} {
		fetch(t, "GET", at+path)
		bare, _, _ := strings.Cut(path, "?")
		e.mu.Lock()
		sent := e.filters[bare]
		e.mu.Unlock()
		var got map[string]set
		if err := json.Unmarshal([]byte(sent), &got); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: sent %s, want %v", path, sent, want)
		}
	}
}

func TestNarrowedObjects(t *testing.T) {
	_, at := narrowed(t)
	for _, kind := range []string{"containers", "services", "tasks", "networks", "volumes", "configs", "secrets", "exec"} {
		suffix := ""
		if kind == "containers" || kind == "exec" {
			suffix = "/json"
		}
		if status, body := fetch(t, "GET", at+"/"+kind+"/"+kind+"-media"+suffix); status != 200 || !strings.Contains(body, kind+"-media") {
			t.Errorf("own %s: got %d %s", kind, status, body)
		}
		for _, name := range []string{kind + "-blog", "blog_web", "nothing"} {
			if status, body := fetch(t, "GET", at+"/"+kind+"/"+name+suffix); status != 404 || !strings.Contains(body, "No such") || !strings.Contains(body, name) {
				t.Errorf("%s %s: got %d %s, want 404", kind, name, status, body)
			}
		}
	}
	for request, want := range map[string]struct {
		status int
		body   string
	}{
		// By name it came, by id it goes on.
		"POST /services/media_web/update":  {200, "POST /services/services-media/update"},
		"POST /services/blog_web/update":   {404, "No such service"},
		"GET /services/blog_web/logs":      {404, "No such service"},
		"GET /tasks/tasks-blog/logs":       {404, "No such task"},
		"GET /containers/blog_web/export":  {404, "No such container"},
		"POST /containers/blog_web/exec":   {404, "No such container"},
		"POST /containers/media_web/stop":  {200, "POST /containers/containers-media/stop"},
		"POST /exec/exec-blog/start":       {404, "No such exec"},
		"DELETE /volumes/volumes-blog":     {404, "No such volume"},
		"POST /services/create":            {403, "cannot be narrowed"},
		"POST /containers/prune":           {403, "cannot be narrowed"},
		"GET /system/df":                   {403, "cannot be narrowed"},
		"GET /images/json":                 {403, "cannot be narrowed"},
		"POST /networks/media_web/connect": {403, "cannot be narrowed"},
		"GET /version":                     {200, ""},
		"GET /nodes":                       {200, ""},
	} {
		method, path, _ := strings.Cut(request, " ")
		status, body := fetch(t, method, at+path)
		if status != want.status || !strings.Contains(body, want.body) {
			t.Errorf("%s: got %d %s, want %d %s", request, status, body, want.status, want.body)
		}
	}
}

// Every route says what a selector does to it, and what it cannot narrow is
// refused.
func TestNarrowingOfRoutes(t *testing.T) {
	for _, list := range routes {
		for _, r := range list {
			named := slices.ContainsFunc(r.pattern, isPlaceholder)
			switch {
			case r.narrow == narrowObject && !named:
				t.Errorf("%s narrows an object, and names none", r)
			case r.narrow == narrowList && (named || !r.reads() || r.answer != described):
				t.Errorf("%s is no list", r)
			case r.narrow == clusterWide && !r.reads():
				t.Errorf("%s writes to what is everybody's", r)
			}
		}
	}
}

func TestNarrowedEvents(t *testing.T) {
	e, at := narrowed(t)
	request, err := http.NewRequestWithContext(t.Context(), "GET", at+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	event := func(kind, action, id string, attributes string) string {
		return fmt.Sprintf(`{"Type":%q,"Action":%q,"Actor":{"ID":%q,"Attributes":{%s}}}`, kind, action, id, attributes)
	}
	// Each foreign event is followed by one that is seen: what comes next is
	// that one.
	seen := func(line string) {
		t.Helper()
		e.events <- line
		if !lines.Scan() || lines.Text() != line {
			t.Errorf("got %s, %v; want %s", lines.Text(), lines.Err(), line)
		}
	}
	seen(event("container", "start", "c", `"com.docker.stack.namespace":"media"`))
	e.events <- event("container", "start", "c", `"com.docker.stack.namespace":"blog"`)
	e.events <- event("container", "start", "c", "")
	e.events <- event("node", "update", "n", "")
	e.events <- event("image", "pull", "i", `"com.docker.stack.namespace":"media"`)
	e.events <- event("service", "update", "services-blog", "")
	seen(event("service", "update", "services-media", ""))
	e.mu.Lock()
	e.gone["services-blog"], e.gone["services-media"], e.gone["networks-media"] = true, true, true
	e.mu.Unlock()
	e.events <- event("service", "remove", "services-blog", "")
	seen(event("service", "remove", "services-media", "")) // its labels are gone
	e.events <- event("service", "remove", "services-media", "")
	seen(event("network", "remove", "networks-media", "")) // seen before the first event
	close(e.events)
	if lines.Scan() {
		t.Errorf("got %s after the last event", lines.Text())
	}
}

func TestSelector(t *testing.T) {
	s, err := ParseSelector("a=1, b")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		labels labels
		want   bool
	}{
		{labels{"a": "1", "b": ""}, true}, {labels{"a": "1", "b": "x", "c": "d"}, true}, {labels{"a": "1"}, false}, {labels{"a": "2", "b": ""}, false}, {nil, false},
	} {
		if got := s.Selects(test.labels); got != test.want {
			t.Errorf("%v: got %v, want %v", test.labels, got, test.want)
		}
	}
	if !(Selector{}).Selects(nil) {
		t.Error("the zero Selector leaves something out")
	}
}

func TestFilterList(t *testing.T) {
	odd := func(entry []byte) (bool, error) { return string(entry) != "2", nil }
	for _, test := range []struct{ under, in, want string }{
		{"", `[1,2,3]`, `[1,3]`}, {"", `[2]`, `[]`}, {"", `[]`, `[]`}, {"", `null`, `null`}, {"", ` [ 2 , 1 ] `, `[1]`},
		{"V", `{"V":[2,1],"W":[2]}`, `{"V":[1],"W":[2]}`}, {"V", `{"W":null,"V":null}`, `{"W":null,"V":null}`}, {"V", `{}`, `{}`},
	} {
		got, err := io.ReadAll(filterList(io.NopCloser(strings.NewReader(test.in)), test.under, odd))
		if err != nil || strings.TrimSpace(string(got)) != test.want {
			t.Errorf("%s: got %s, %v; want %s", test.in, got, err, test.want)
		}
	}
	long := `["` + strings.Repeat("x", 2*maxEntry) + `"]`
	for _, in := range []string{``, `[`, `[1`, `[1,`, `{}`, `7`, long} {
		if got, err := io.ReadAll(filterList(io.NopCloser(strings.NewReader(in)), "", odd)); err == nil {
			t.Errorf("%.10s: got %.10s, want an error", in, got)
		}
	}
}

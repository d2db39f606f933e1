package dockerproxy

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// answers is an engine that answers as its name of a container says.
type answers struct{ t *testing.T }

func (a answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const body = `{"Config":{"Env":["PASSWORD=hunter2"]}}`
	w.Header().Set("Content-Type", "application/json")
	for _, name := range []string{"Accept-Encoding", "Accept", "Range"} {
		if value := r.Header.Get(name); value != "" {
			a.t.Errorf("%s: the engine was asked for %s: %s", r.URL.Path, name, value)
		}
	}
	switch strings.Split(r.URL.Path, "/")[2] {
	case "sized":
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		io.WriteString(w, body)
	case "packed":
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		io.WriteString(z, body)
		z.Close()
	case "broken":
		io.WriteString(w, body[:30])
	case "text":
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "}PASSWORD=hunter2")
	case "missing":
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"message":"No such container: missing"}`)
	}
}

// TestAnswers holds that what is rewritten arrives whole and well-formed, and
// that what cannot be looked into does not arrive.
func TestAnswers(t *testing.T) {
	address := serve(t, startHandler(t, answers{t}), t.Output(), "CONTAINERS=1")
	tests := []struct {
		method, name string
		status       int
		body         string
		broken       bool
	}{
		{"GET", "sized", 200, `{"Config":{"Env":["PASSWORD=[redacted]"]}}`, false},
		{"HEAD", "sized", 200, "", false},
		{"GET", "packed", 502, "cannot reach Docker", false},
		{"GET", "broken", 200, "", true},
		{"GET", "text", 200, "", true},
		{"GET", "missing", 404, `{"message":"No such container: missing"}`, false},
	}
	for _, test := range tests {
		t.Run(test.method+" "+test.name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), test.method, "http://"+address+"/containers/"+test.name+"/json", nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Accept-Encoding", "gzip, deflate")
			request.Header.Set("Accept", "application/json-seq")
			request.Header.Set("Range", "bytes=20-")
			response, err := http.DefaultTransport.RoundTrip(request)
			if test.broken && err != nil {
				return // it broke off before anything was sent
			}
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if response.StatusCode != test.status || !strings.Contains(string(body), test.body) || (err != nil) != test.broken {
				t.Errorf("got %d %q, %v; want %d %q, broken %v", response.StatusCode, body, err, test.status, test.body, test.broken)
			}
			if strings.Contains(string(body), "hunter2") {
				t.Errorf("got %q", body)
			}
			if test.method == "HEAD" && response.Header.Get("Content-Length") == "39" {
				t.Error("HEAD promises the length of an answer that nobody gets")
			}
		})
	}
}

package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

var (
	exposed = regexp.MustCompile(`(?m)^# TYPE (skep_\w+) `)
	listed  = regexp.MustCompile("(?m)^\\| `(skep_\\w+)` \\|")
)

// metrics wants the metrics of a server that has done something to be those that
// the guide lists, with names as Prometheus has them, and some to have a value.
func (f *faulty) metrics(address string, values ...string) {
	f.Helper()
	answer, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		f.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		f.Fatal(err)
	}
	guide, err := os.ReadFile("../../docs/guides/control-plane.md")
	if err != nil {
		f.Fatal(err)
	}
	guide, _, _ = bytes.Cut(guide, []byte("<!-- metrics of workers")) // which are not the server's
	got, want := names(exposed, text), names(listed, guide)
	if len(got) == 0 || !slices.Equal(got, want) {
		f.Errorf("/metrics has\n%q, the guide lists\n%q", got, want)
	}
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil {
		f.Error(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "skep_") {
			f.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	for _, line := range values {
		if !bytes.Contains(text, []byte("\n"+line+"\n")) {
			f.Errorf("there is no %s in\n%s", line, text)
		}
	}
}

func names(find *regexp.Regexp, text []byte) (out []string) {
	for _, m := range find.FindAllSubmatch(text, -1) {
		out = append(out, string(m[1]))
	}
	slices.Sort(out)
	return out
}

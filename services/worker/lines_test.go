package worker

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// What is told of a command that failed is what it said last, not how to mend
// it, which would make no sense alone.
func TestLastWords(t *testing.T) {
	for name, test := range map[string]struct {
		lines []string
		want  string
	}{
		"a remedy":       {[]string{"warning: it is late", "skep: the plan has problems", "    see to what it marks with !"}, "skep: the plan has problems"},
		"a trace":        {[]string{"panic: out of bees", "\t/hive.go:3"}, "panic: out of bees"},
		"nothing else":   {[]string{"   it is indented"}, "it is indented"},
		"an empty line":  {[]string{"it is broken", "", "  "}, "it is broken"},
		"nothing at all": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			metrics, err := NewMetrics(prometheus.NewRegistry())
			if err != nil {
				t.Fatal(err)
			}
			l := &lines{metrics: metrics}
			for _, line := range test.lines {
				l.add("stderr", line)
			}
			l.add("stdout", "and that is all")
			if got := l.last(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

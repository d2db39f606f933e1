// Package tracingtest has a collector of traces, for tests.
package tracingtest

import (
	"bytes"
	"encoding/hex"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is one that the collector got. Ids are in hexadecimal digits; Parent is
// empty for the first span of a trace.
type Span struct {
	Service           string
	Name              string
	Trace, ID, Parent string
	Failed            bool
	Attributes        map[string]string
}

// Collector takes spans as a collector does: over HTTP, by POST to /v1/traces,
// in the encoding of OTLP 1.0.
type Collector struct {
	URL string

	mu     sync.Mutex
	status int // what is answered; 0: the spans are taken
	spans  []Span
	raw    [][]byte
}

// Start runs one for the length of a test.
func Start(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, r *http.Request) { c.take(t, w, r) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c.URL = server.URL
	return c
}

func (c *Collector) take(t testing.TB, w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 16<<20))
	if err != nil {
		return // the sender is gone
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status != 0 {
		w.WriteHeader(c.status)
		return
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var sent collector.ExportTraceServiceRequest
	if err != nil || kind != "application/x-protobuf" || proto.Unmarshal(body, &sent) != nil {
		t.Errorf("the collector got %d bytes of %s that are no request", len(body), kind)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.raw = append(c.raw, body)
	for _, resource := range sent.ResourceSpans {
		service := attributes(resource.GetResource().GetAttributes())["service.name"]
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				c.spans = append(c.spans, Span{
					Service: service, Name: s.Name, Trace: hex.EncodeToString(s.TraceId), ID: hex.EncodeToString(s.SpanId),
					Parent: hex.EncodeToString(s.ParentSpanId), Failed: s.GetStatus().GetCode() == trace.Status_STATUS_CODE_ERROR,
					Attributes: attributes(s.Attributes),
				})
			}
		}
	}
	answer, err := proto.Marshal(&collector.ExportTraceServiceResponse{})
	if err != nil {
		t.Error(err)
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(answer) // the sender may be gone
}

func attributes(list []*common.KeyValue) map[string]string {
	out := map[string]string{}
	for _, a := range list {
		switch v := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			out[a.Key] = v.StringValue
		default:
			out[a.Key] = a.GetValue().String()
		}
	}
	return out
}

// Refuse makes the collector answer with a status from now on; 0: as usual.
func (c *Collector) Refuse(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

// Spans are those that have come.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Holds says whether a text is anywhere in what has come.
func (c *Collector) Holds(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.raw, func(body []byte) bool { return bytes.Contains(body, []byte(text)) })
}

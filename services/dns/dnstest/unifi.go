package dnstest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"skep/networks"
)

// UniFi is a fake of a gateway's static DNS API. The API has no published
// description; this is what its interface and the clients of others send, with
// the answers that their issues quote.
type UniFi struct {
	URL string
	Key string

	mu      sync.Mutex
	records []unifiRecord
	// fail ends the request of that number, counted down from now, with 500.
	fail int
}

type unifiRecord struct {
	ID      string `json:"_id"`
	Key     string `json:"key"`
	Type    string `json:"record_type"`
	Value   string `json:"value"`
	TTL     uint32 `json:"ttl"`
	Enabled bool   `json:"enabled"`
	Port    int    `json:"port,omitempty"`
}

// NewUniFi starts the fake, with a site called default.
func NewUniFi(t testing.TB) *UniFi {
	t.Helper()
	f := &UniFi{Key: "key-of-nobody"}
	const path = "/proxy/network/v2/api/site/default/static-dns"
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+path, f.list)
	mux.HandleFunc("POST "+path, f.post)
	mux.HandleFunc("PUT "+path+"/{id}", f.put)
	mux.HandleFunc("DELETE "+path+"/{id}", f.remove)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.fail > 0 {
			if f.fail--; f.fail == 0 {
				http.Error(w, "the gateway restarts", http.StatusBadGateway)
				return
			}
		}
		if r.Header.Get("X-API-KEY") != f.Key {
			answer(w, http.StatusUnauthorized, map[string]any{"error": map[string]any{"code": 401, "message": "Unauthorized"}})
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	f.URL = server.URL
	return f
}

// Insert adds a record as the interface does.
func (f *UniFi) Insert(r networks.Record, enabled bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.records = append(f.records, unifiRecord{ID: newID()[:24], Key: r.Name, Type: string(r.Type), Value: r.Content, TTL: r.TTL, Enabled: enabled})
}

// Size counts the records.
func (f *UniFi) Size(testing.TB) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.records)
}

// FailAt lets the n-th request from now fail.
func (f *UniFi) FailAt(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = n
}

// Dnsmasq is the configuration that the gateway makes of the records.
func (f *UniFi) Dnsmasq() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out strings.Builder
	for _, r := range f.records {
		if !r.Enabled {
			continue
		}
		switch r.Type {
		case "A", "AAAA":
			fmt.Fprintf(&out, "host-record=%s,%s\n", r.Key, r.Value)
		case "CNAME":
			fmt.Fprintf(&out, "cname=%s,%s\n", r.Key, r.Value)
		case "TXT":
			fmt.Fprintf(&out, "txt-record=%s,%q\n", r.Key, r.Value)
		}
	}
	return out.String()
}

func (f *UniFi) list(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, slices.Concat([]unifiRecord{}, f.records))
}

func unifiError(w http.ResponseWriter, code, message string, fields ...string) {
	answer(w, http.StatusBadRequest, map[string]any{
		"code": "api.err." + code, "details": map[string]any{"invalid_fields": fields}, "errorCode": http.StatusBadRequest, "message": message,
	})
}

// accept reads a record. A second CNAME of a name passes, as it does there.
func (f *UniFi) accept(w http.ResponseWriter, r *http.Request) (unifiRecord, bool) {
	var in unifiRecord
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		unifiError(w, "InvalidPayload", "Invalid payload")
		return in, false
	}
	if in.Type == "CNAME" && strings.HasPrefix(in.Key, "*.") {
		unifiError(w, "StaticDnsRecordInvalidParameters", "Invalid hostname", "key")
		return in, false
	}
	return in, true
}

func (f *UniFi) post(w http.ResponseWriter, r *http.Request) {
	in, ok := f.accept(w, r)
	if !ok {
		return
	}
	in.ID = newID()[:24]
	f.records = append(f.records, in)
	answer(w, http.StatusOK, in)
}

func (f *UniFi) index(w http.ResponseWriter, r *http.Request) (int, bool) {
	i := slices.IndexFunc(f.records, func(o unifiRecord) bool { return o.ID == r.PathValue("id") })
	if i < 0 {
		answer(w, http.StatusNotFound, map[string]any{"code": "api.err.NotFound", "errorCode": http.StatusNotFound, "message": "Not found"})
	}
	return i, i >= 0
}

func (f *UniFi) put(w http.ResponseWriter, r *http.Request) {
	i, ok := f.index(w, r)
	if !ok {
		return
	}
	in, ok := f.accept(w, r)
	if !ok {
		return
	}
	in.ID = f.records[i].ID
	f.records[i] = in
	answer(w, http.StatusOK, in)
}

func (f *UniFi) remove(w http.ResponseWriter, r *http.Request) {
	if i, ok := f.index(w, r); ok {
		f.records = slices.Delete(f.records, i, i+1)
		w.WriteHeader(http.StatusOK)
	}
}

package dnstest

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"skep/networks"
)

// Cloudflare is a fake of the parts of Cloudflare's API that are used here,
// after https://developers.cloudflare.com/api/.
type Cloudflare struct {
	URL   string
	Token string

	mu      sync.Mutex
	zones   map[string]*cloudflareZone // by id
	tunnels map[string]*tunnelConfig   // by account/tunnel
	// limited answers 429 to that many requests.
	limited  int
	after    string // Retry-After of those
	requests []string
}

type cloudflareZone struct {
	name    string
	records []cloudflareRecord
}

type cloudflareRecord struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Type    string `json:"type"`
	Content string `json:"content"`
	TTL     uint32 `json:"ttl"`
	Proxied bool   `json:"proxied"`
	Comment string `json:"comment"`
}

type tunnelConfig struct {
	source  string
	version int
	config  json.RawMessage
}

// NewCloudflare starts the fake with one zone.
func NewCloudflare(t testing.TB, zone string) *Cloudflare {
	t.Helper()
	f := &Cloudflare{Token: "token-of-nobody", zones: map[string]*cloudflareZone{}, tunnels: map[string]*tunnelConfig{}}
	f.AddZone(zone)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /zones", f.listZones)
	mux.HandleFunc("GET /zones/{zone}/dns_records", f.records(f.list))
	mux.HandleFunc("POST /zones/{zone}/dns_records", f.records(f.post))
	mux.HandleFunc("POST /zones/{zone}/dns_records/batch", f.records(f.batch))
	mux.HandleFunc("PATCH /zones/{zone}/dns_records/{id}", f.records(f.patch))
	mux.HandleFunc("DELETE /zones/{zone}/dns_records/{id}", f.records(f.remove))
	mux.HandleFunc("GET /accounts/{account}/cfd_tunnel/{tunnel}/configurations", f.getTunnel)
	mux.HandleFunc("PUT /accounts/{account}/cfd_tunnel/{tunnel}/configurations", f.putTunnel)
	server := httptest.NewServer(f.guard(mux))
	t.Cleanup(server.Close)
	f.URL = server.URL
	return f
}

// AddZone adds a zone to the account.
func (f *Cloudflare) AddZone(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.zones[newID()] = &cloudflareZone{name: name}
}

// AddTunnel adds a tunnel; source is "cloudflare" when it is managed remotely.
func (f *Cloudflare) AddTunnel(account, tunnel, source, config string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tunnels[account+"/"+tunnel] = &tunnelConfig{source: source, version: 1, config: json.RawMessage(config)}
}

// TunnelConfig is the configuration of a tunnel and how often it was written.
func (f *Cloudflare) TunnelConfig(account, tunnel string) (string, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.tunnels[account+"/"+tunnel]
	return string(t.config), t.version
}

// Limit answers the next n requests with 429.
func (f *Cloudflare) Limit(n int, after string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limited, f.after = n, after
}

// Insert adds a record as the dashboard does; comment may be empty.
func (f *Cloudflare) Insert(t testing.TB, r networks.Record, comment string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, z := range f.zones {
		if r.Name == z.name || strings.HasSuffix(r.Name, "."+z.name) {
			z.records = append(z.records, cloudflareRecord{
				ID: newID(), Name: r.Name, Type: string(r.Type), Content: r.Content, TTL: max(1, r.TTL), Proxied: r.Proxied, Comment: comment,
			})
			return
		}
	}
	t.Fatalf("no zone holds %s", r.Name)
}

// Comments are the comments of all records, by name.
func (f *Cloudflare) Comments() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]string{}
	for _, z := range f.zones {
		for _, r := range z.records {
			out[r.Name] = r.Comment
		}
	}
	return out
}

// Size counts the records.
func (f *Cloudflare) Size(testing.TB) int { return len(f.Comments()) }

// Requests are method and path of all requests so far.
func (f *Cloudflare) Requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func (f *Cloudflare) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.requests = append(f.requests, r.Method+" "+r.URL.Path)
		switch {
		case f.limited > 0:
			f.limited--
			w.Header().Set("Retry-After", f.after)
			refuse(w, http.StatusTooManyRequests, 971, "Please wait and consider throttling your request speed")
		case r.Header.Get("Authorization") != "Bearer "+f.Token:
			refuse(w, http.StatusForbidden, 9109, "Invalid access token")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func refuse(w http.ResponseWriter, status, code int, message string) {
	answer(w, status, map[string]any{
		"success": false, "result": nil, "messages": []any{},
		"errors": []any{map[string]any{"code": code, "message": message}},
	})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func succeed(w http.ResponseWriter, result any) {
	answer(w, http.StatusOK, map[string]any{"success": true, "errors": []any{}, "messages": []any{}, "result": result})
}

func (f *Cloudflare) listZones(w http.ResponseWriter, r *http.Request) {
	result := []any{}
	for id, z := range f.zones {
		if z.name == r.URL.Query().Get("name") {
			result = append(result, map[string]any{"id": id, "name": z.name, "status": "active"})
		}
	}
	answer(w, http.StatusOK, map[string]any{"success": true, "errors": []any{}, "result": result,
		"result_info": map[string]int{"page": 1, "per_page": 20, "count": len(result), "total_count": len(result), "total_pages": min(1, len(result))}})
}

func (f *Cloudflare) records(handle func(http.ResponseWriter, *http.Request, *cloudflareZone)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		z, ok := f.zones[r.PathValue("zone")]
		if !ok {
			refuse(w, http.StatusNotFound, 7003, "Could not route to "+r.URL.Path+", perhaps your object identifier is invalid?")
			return
		}
		handle(w, r, z)
	}
}

func (f *Cloudflare) list(w http.ResponseWriter, r *http.Request, z *cloudflareZone) {
	page, _ := strconv.Atoi(r.URL.Query().Get("page"))
	size, _ := strconv.Atoi(r.URL.Query().Get("per_page"))
	page, size = max(1, page), min(max(1, size), 5000)
	first := min((page-1)*size, len(z.records))
	part := z.records[first:min(first+size, len(z.records))]
	answer(w, http.StatusOK, map[string]any{"success": true, "errors": []any{}, "result": slices.Concat([]cloudflareRecord{}, part),
		"result_info": map[string]int{"page": page, "per_page": size, "count": len(part), "total_count": len(z.records),
			"total_pages": (len(z.records) + size - 1) / size}})
}

// check says what the API would refuse, as code and message.
func (z *cloudflareZone) check(r cloudflareRecord) (int, string) {
	addr, err := netip.ParseAddr(r.Content)
	switch {
	case r.Name != z.name && !strings.HasSuffix(r.Name, "."+z.name):
		return 1004, "DNS Validation Error"
	case len(r.Comment) > 100:
		return 9220, "Comment exceeds the maximum length of 100 characters"
	case r.TTL != 1 && (r.TTL < 60 || r.TTL > 86400):
		return 9021, "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic."
	case r.Type == "A" && (err != nil || !addr.Is4()):
		return 9005, "Content for A record must be a valid IPv4 address."
	case r.Type == "AAAA" && (err != nil || !addr.Is6()):
		return 9006, "Content for AAAA record must be a valid IPv6 address."
	case r.Type == "CNAME" && (err == nil || !strings.Contains(r.Content, ".")):
		return 9007, "Content for CNAME record is invalid."
	}
	for _, other := range z.records {
		if other.ID == r.ID || other.Name != r.Name {
			continue
		}
		switch {
		case other.Type == r.Type && other.Content == r.Content:
			return 81058, "An identical record already exists."
		case other.Type == "CNAME" && (r.Type == "A" || r.Type == "AAAA" || r.Type == "CNAME"):
			return 81053, "An A, AAAA, or CNAME record with that host already exists."
		case r.Type == "CNAME" && (other.Type == "A" || other.Type == "AAAA"):
			return 81054, "A CNAME record with that host already exists."
		}
	}
	return 0, ""
}

func (z *cloudflareZone) put(r cloudflareRecord) (cloudflareRecord, int, string) {
	if code, message := z.check(r); code != 0 {
		return r, code, message
	}
	if i := slices.IndexFunc(z.records, func(o cloudflareRecord) bool { return o.ID == r.ID }); i >= 0 {
		z.records[i] = r
		return r, 0, ""
	}
	r.ID = newID()
	z.records = append(z.records, r)
	return r, 0, ""
}

func (f *Cloudflare) post(w http.ResponseWriter, r *http.Request, z *cloudflareZone) {
	var in cloudflareRecord
	if !decode(w, r, &in) {
		return
	}
	in.ID = ""
	made, code, message := z.put(in)
	if code != 0 {
		refuse(w, http.StatusBadRequest, code, message)
		return
	}
	succeed(w, made)
}

func decode(w http.ResponseWriter, r *http.Request, v any) bool {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		refuse(w, http.StatusBadRequest, 9207, "Failed to parse request body")
		return false
	}
	return true
}

func (z *cloudflareZone) index(id string) int {
	return slices.IndexFunc(z.records, func(o cloudflareRecord) bool { return o.ID == id })
}

func (f *Cloudflare) patch(w http.ResponseWriter, r *http.Request, z *cloudflareZone) {
	i := z.index(r.PathValue("id"))
	if i < 0 {
		refuse(w, http.StatusNotFound, 81044, "Record does not exist.")
		return
	}
	changed := z.records[i] // what the body leaves out stays
	if !decode(w, r, &changed) {
		return
	}
	changed.ID = z.records[i].ID
	changed, code, message := z.put(changed)
	if code != 0 {
		refuse(w, http.StatusBadRequest, code, message)
		return
	}
	succeed(w, changed)
}

func (f *Cloudflare) remove(w http.ResponseWriter, r *http.Request, z *cloudflareZone) {
	i := z.index(r.PathValue("id"))
	if i < 0 {
		refuse(w, http.StatusNotFound, 81044, "Record does not exist.")
		return
	}
	z.records = slices.Delete(z.records, i, i+1)
	succeed(w, map[string]string{"id": r.PathValue("id")})
}

// batch is one transaction: deletes first, posts last.
func (f *Cloudflare) batch(w http.ResponseWriter, r *http.Request, z *cloudflareZone) {
	var in struct {
		Deletes []struct{ ID string }
		Posts   []cloudflareRecord
	}
	if !decode(w, r, &in) {
		return
	}
	before := slices.Clone(z.records)
	for _, d := range in.Deletes {
		i := z.index(d.ID)
		if i < 0 {
			z.records = before
			refuse(w, http.StatusNotFound, 81044, "Record does not exist.")
			return
		}
		z.records = slices.Delete(slices.Clone(z.records), i, i+1)
	}
	made := []cloudflareRecord{}
	for _, p := range in.Posts {
		p.ID = ""
		p, code, message := z.put(p)
		if code != 0 {
			z.records = before
			refuse(w, http.StatusBadRequest, code, message)
			return
		}
		made = append(made, p)
	}
	succeed(w, map[string]any{"deletes": in.Deletes, "posts": made})
}

func (f *Cloudflare) tunnel(w http.ResponseWriter, r *http.Request) (*tunnelConfig, bool) {
	t, ok := f.tunnels[r.PathValue("account")+"/"+r.PathValue("tunnel")]
	if !ok {
		refuse(w, http.StatusNotFound, 1002, fmt.Sprintf("Configuration for tunnel not found, tunnel_id: %s", r.PathValue("tunnel")))
	}
	return t, ok
}

func (f *Cloudflare) getTunnel(w http.ResponseWriter, r *http.Request) {
	if t, ok := f.tunnel(w, r); ok {
		succeed(w, map[string]any{"tunnel_id": r.PathValue("tunnel"), "version": t.version, "source": t.source, "config": t.config})
	}
}

func (f *Cloudflare) putTunnel(w http.ResponseWriter, r *http.Request) {
	t, ok := f.tunnel(w, r)
	if !ok {
		return
	}
	var in struct {
		Config struct {
			Ingress []struct {
				Hostname string `json:"hostname"`
				Service  string `json:"service"`
			} `json:"ingress"`
		} `json:"config"`
	}
	var raw struct {
		Config json.RawMessage `json:"config"`
	}
	body := json.RawMessage{}
	if !decode(w, r, &body) || json.Unmarshal(body, &in) != nil || json.Unmarshal(body, &raw) != nil {
		return
	}
	rules := in.Config.Ingress
	if len(rules) == 0 || rules[len(rules)-1].Hostname != "" {
		refuse(w, http.StatusBadRequest, 1056, "Bad Configuration: The last ingress rule must match all URLs (i.e. it should not have a hostname or path filter)")
		return
	}
	t.version++
	t.source, t.config = "cloudflare", raw.Config
	succeed(w, map[string]any{"tunnel_id": r.PathValue("tunnel"), "version": t.version, "source": t.source, "config": t.config})
}

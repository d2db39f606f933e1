// Package unifi keeps the static DNS records of a UniFi gateway, by the API
// that its own interface uses.
package unifi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"skep/networks"
	"skep/services/dns"
	"skep/services/dns/httpapi"
	"skep/services/dns/txtmark"
)

// Config says where the gateway is.
type Config struct {
	URL  string // https://192.168.1.1
	Site string // "default" if empty
	Key  string // API key of Network > Settings > Control Plane > Integrations
	// Roots is who signed the gateway's certificate; nil are the system's.
	Roots *x509.CertPool
}

// Zone is one zone of the cluster in the gateway's records. Marks are TXT
// records. Every change reads the records again: the gateway itself lets two
// CNAMEs of a name pass, and its DNS and DHCP stop with them.
type Zone struct {
	api  *httpapi.Client
	path string
}

var _ dns.Provider = (*Zone)(nil)

// New makes a zone.
func New(c Config) (*Zone, error) {
	if err := httpapi.CheckURL(c.URL); err != nil {
		return nil, fmt.Errorf("UniFi: %w", err)
	}
	switch {
	case c.Key == "":
		return nil, errors.New("an API key for UniFi is missing")
	case c.Site == "":
		c.Site = "default"
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: c.Roots}
	return &Zone{
		api: &httpapi.Client{
			Base:      c.URL,
			HTTP:      httpapi.NewHTTP(transport),
			Authorize: func(r *http.Request) { r.Header.Set("X-API-KEY", c.Key) },
		},
		path: "/proxy/network/v2/api/site/" + url.PathEscape(c.Site) + "/static-dns",
	}, nil
}

// Traits: the gateway writes its records into dnsmasq's configuration.
func (*Zone) Traits() dns.Traits { return dns.Traits{StrictCNAME: true} }

// record is a static DNS record of the API.
type record struct {
	ID      string `json:"_id,omitempty"`
	Key     string `json:"key"`
	Type    string `json:"record_type"`
	Value   string `json:"value"`
	TTL     uint32 `json:"ttl"`
	Enabled bool   `json:"enabled"`
}

func (z *Zone) call(ctx context.Context, method, id string, in, out any) error {
	path := z.path
	if id != "" {
		path += "/" + url.PathEscape(id)
	}
	err := z.api.Call(ctx, method, path, nil, in, out)
	var status *httpapi.Error
	if errors.As(err, &status) {
		return explain(status)
	}
	return err
}

// explain reads the message out of an answer: the application and the gateway
// before it have one form each.
func explain(status *httpapi.Error) error {
	var body struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Error   struct {
			Message string `json:"message"`
		} `json:"error"`
		Details struct {
			Fields []string `json:"invalid_fields"`
		} `json:"details"`
	}
	_ = json.Unmarshal(status.Body, &body) // without it the status has to do
	text := body.Message
	if body.Code != "" {
		text += " (" + body.Code + ")"
	}
	if len(body.Details.Fields) > 0 {
		text += ", in " + strings.Join(body.Details.Fields, ", ")
	}
	if text == "" {
		text = body.Error.Message
	}
	if text == "" {
		return status
	}
	return fmt.Errorf("%w: %s", status, text)
}

func notFound(err error) bool {
	var status *httpapi.Error
	return errors.As(err, &status) && status.Status == http.StatusNotFound
}

// raw lists the records with their marks as records.
func (z *Zone) raw(ctx context.Context) ([]dns.Live, error) {
	var records []record
	if err := z.call(ctx, http.MethodGet, "", nil, &records); err != nil {
		return nil, err
	}
	out := make([]dns.Live, len(records))
	for i, r := range records {
		content := r.Value
		if networks.RecordType(r.Type) == networks.CNAME {
			content = strings.ToLower(strings.TrimSuffix(content, "."))
		}
		out[i] = dns.Live{ID: r.ID, Off: !r.Enabled, Record: networks.Record{
			Name: strings.ToLower(strings.TrimSuffix(r.Key, ".")), Type: networks.RecordType(r.Type), Content: content, TTL: r.TTL,
		}}
	}
	return out, nil
}

// List reads all records; the API has no pages.
func (z *Zone) List(ctx context.Context) ([]dns.Live, error) {
	records, err := z.raw(ctx)
	return txtmark.Claim(records), err
}

// Apply makes one change, in steps of which each leaves what the next run
// understands: the mark comes before the record and goes after it.
func (z *Zone) Apply(ctx context.Context, c dns.Change) error {
	records, err := z.raw(ctx)
	if err != nil {
		return err
	}
	name, err := txtmark.Name(c.Record.Name)
	if err != nil {
		return err
	}
	m := marker{zone: z, name: name, entries: marksOf(records, name, c)}
	if c.Old != nil && !c.Old.Orphan {
		i := slices.IndexFunc(records, func(l dns.Live) bool { return l.ID == c.Old.ID })
		switch {
		case i < 0 && c.Action == dns.Remove:
			return m.clear(ctx)
		case i < 0 || records[i].Type != c.Old.Type || records[i].Content != c.Old.Content:
			return dns.ErrChanged
		}
	}
	switch {
	case c.Action == dns.Remove && c.Old.Orphan:
		return m.clear(ctx)
	case c.Action == dns.Remove:
		if err := z.remove(ctx, c.Old.ID); err != nil {
			return err
		}
		return m.clear(ctx)
	case c.Action == dns.Retire:
		return m.write(ctx, txtmark.For(c.Mark, c.Old.Record))
	case c.Action == dns.Create:
		if err := free(records, c.Record, ""); err != nil {
			return err
		}
		if err := m.write(ctx, txtmark.For(c.Mark, c.Record)); err != nil {
			return err
		}
		return z.call(ctx, http.MethodPost, "", wanted(c.Record), nil)
	}
	if err := free(records, c.Record, c.Old.ID); err != nil {
		return err
	}
	if err := m.write(ctx, txtmark.For(c.Mark, c.Old.Record, c.Record)); err != nil {
		return err
	}
	if err := z.replace(ctx, c); err != nil {
		return err
	}
	return m.write(ctx, txtmark.For(c.Mark, c.Record))
}

func (z *Zone) remove(ctx context.Context, id string) error {
	if err := z.call(ctx, http.MethodDelete, id, nil, nil); err != nil && !notFound(err) {
		return err
	}
	return nil
}

func (z *Zone) replace(ctx context.Context, c dns.Change) error {
	if c.Old.Type == c.Record.Type {
		r := wanted(c.Record)
		r.ID = c.Old.ID
		return z.call(ctx, http.MethodPut, r.ID, r, nil)
	}
	if err := z.remove(ctx, c.Old.ID); err != nil {
		return err
	}
	return z.call(ctx, http.MethodPost, "", wanted(c.Record), nil)
}

func wanted(r networks.Record) record {
	return record{Key: r.Name, Type: string(r.Type), Value: r.Content, TTL: r.TTL, Enabled: true}
}

// free refuses what would stop the gateway's DNS, whoever has made the other
// record since the plan.
func free(records []dns.Live, r networks.Record, except string) error {
	for _, l := range records {
		if l.ID == except || l.Name != r.Name {
			continue
		}
		if r.Type == networks.CNAME || l.Type == networks.CNAME || l.Type == r.Type && l.Content == r.Content {
			return fmt.Errorf("%w: %s %s is there now", dns.ErrChanged, l.Type, l.Content)
		}
	}
	return nil
}

// marker writes the mark of one record.
type marker struct {
	zone    *Zone
	name    string     // of the TXT record
	entries []dns.Live // that mark the record so far, this cluster's
}

func marksOf(records []dns.Live, name string, c dns.Change) []dns.Live {
	covered := []txtmark.Fingerprint{txtmark.Of(c.Record)}
	if c.Old != nil {
		covered = append(covered, txtmark.Of(c.Old.Record))
	}
	var out []dns.Live
	for _, l := range records {
		if l.Name != name || l.Type != networks.TXT {
			continue
		}
		e, err := txtmark.Parse(l.Content)
		if err != nil || e.Mark.Cluster != c.Mark.Cluster {
			continue
		}
		orphan := c.Old != nil && c.Old.Orphan && c.Old.ID == l.ID
		if orphan || slices.ContainsFunc(covered, func(f txtmark.Fingerprint) bool { return slices.Contains(e.Covers, f) }) {
			out = append(out, l)
		}
	}
	return out
}

func (m *marker) write(ctx context.Context, e txtmark.Entry) error {
	r := wanted(networks.Record{Name: m.name, Type: networks.TXT, Content: e.Text()})
	if len(m.entries) == 0 {
		var made record
		if err := m.zone.call(ctx, http.MethodPost, "", r, &made); err != nil {
			return fmt.Errorf("mark: %w", err)
		}
		m.entries = []dns.Live{{ID: made.ID}}
		return nil
	}
	r.ID = m.entries[0].ID
	if err := m.zone.call(ctx, http.MethodPut, r.ID, r, nil); err != nil {
		return fmt.Errorf("mark: %w", err)
	}
	return nil
}

func (m *marker) clear(ctx context.Context) error {
	for _, l := range m.entries {
		if err := m.zone.remove(ctx, l.ID); err != nil {
			return fmt.Errorf("remove the mark: %w", err)
		}
	}
	return nil
}

package cloudflare

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"skep/networks"
	"skep/services/dns"
)

// Zone is one zone of the cluster at Cloudflare. A mark is the record's
// comment.
type Zone struct {
	client *Client
	domain string
	id     string // of Cloudflare's zone, once it is known
}

var _ dns.Provider = (*Zone)(nil)

// Zone returns the zone of a domain, which may lie inside a zone of the
// account: admin.example.com in example.com.
func (c *Client) Zone(domain string) *Zone { return &Zone{client: c, domain: domain} }

// Traits of Cloudflare.
// https://developers.cloudflare.com/dns/cname-flattening/
func (*Zone) Traits() dns.Traits { return dns.Traits{FlattensApex: true, Proxied: true} }

// record is a DNS record of the API.
type record struct {
	ID      string `json:"id,omitempty"`
	Name    string `json:"name"`
	Type    string `json:"type"`
	Content string `json:"content"`
	TTL     uint32 `json:"ttl"`
	Proxied bool   `json:"proxied"`
	Comment string `json:"comment"`
}

const (
	// automatic is the TTL that leaves it to Cloudflare.
	automatic = 1
	perPage   = 100
)

// find learns the zone's id.
func (z *Zone) find(ctx context.Context) error {
	if z.id != "" {
		return nil
	}
	for name := z.domain; strings.Contains(name, "."); _, name, _ = strings.Cut(name, ".") {
		var zones []struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		}
		if _, err := z.client.call(ctx, http.MethodGet, "/zones", url.Values{"name": {name}}, nil, &zones); err != nil {
			return fmt.Errorf("find the zone: %w", err)
		}
		for _, found := range zones {
			if found.Name == name {
				z.id = found.ID
				return nil
			}
		}
	}
	return fmt.Errorf("no zone of %s: the token must have Zone Read on the zone that holds it", z.domain)
}

func (z *Zone) path(parts ...string) string {
	out := "/zones/" + url.PathEscape(z.id) + "/dns_records"
	for _, p := range parts {
		out += "/" + url.PathEscape(p)
	}
	return out
}

// List reads all pages.
func (z *Zone) List(ctx context.Context) ([]dns.Live, error) {
	if err := z.find(ctx); err != nil {
		return nil, err
	}
	var out []dns.Live
	seen := map[string]bool{} // a record created meanwhile moves the others to the next page
	for page := 1; ; page++ {
		var records []record
		query := url.Values{"page": {strconv.Itoa(page)}, "per_page": {strconv.Itoa(perPage)}}
		pages, err := z.client.call(ctx, http.MethodGet, z.path(), query, nil, &records)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			if !seen[r.ID] {
				seen[r.ID] = true
				out = append(out, live(r))
			}
		}
		if page >= pages || len(records) == 0 {
			return out, nil
		}
	}
}

func live(r record) dns.Live {
	out := dns.Live{ID: r.ID, Record: networks.Record{
		Name: strings.ToLower(r.Name), Type: networks.RecordType(r.Type), Content: r.Content, Proxied: r.Proxied,
	}}
	if r.TTL != automatic {
		out.TTL = r.TTL
	}
	switch out.Type {
	case networks.CNAME:
		out.Content = strings.ToLower(strings.TrimSuffix(r.Content, "."))
	case networks.TXT:
		out.Content = unquote(r.Content)
	}
	if m, ok := dns.ParseMark(r.Comment); ok {
		out.Mark = &m
	}
	return out
}

// unquote takes a TXT record's content out of its quotes, if it has them.
func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return strings.ReplaceAll(s[1:len(s)-1], `" "`, "")
	}
	return s
}

func wanted(c dns.Change) record {
	r := record{Name: c.Record.Name, Type: string(c.Record.Type), Content: c.Record.Content,
		TTL: c.Record.TTL, Proxied: c.Record.Proxied, Comment: c.Mark.String()}
	if r.TTL == 0 || r.Proxied {
		r.TTL = automatic
	}
	if c.Record.Type == networks.TXT {
		r.Content = `"` + r.Content + `"`
	}
	return r
}

// Apply makes one change.
func (z *Zone) Apply(ctx context.Context, c dns.Change) error {
	if err := z.find(ctx); err != nil {
		return err
	}
	switch {
	case c.Action == dns.Create:
		_, err := z.client.call(ctx, http.MethodPost, z.path(), nil, wanted(c), nil)
		if errors.Is(err, codeRecordExists) || errors.Is(err, codeIdenticalExists) {
			return fmt.Errorf("%w: %w", dns.ErrChanged, err)
		}
		return err
	case c.Action == dns.Remove:
		_, err := z.client.call(ctx, http.MethodDelete, z.path(c.Old.ID), nil, nil, nil)
		if errors.Is(err, codeNoRecord) {
			return nil
		}
		return err
	case c.Action == dns.Retire:
		// The comment alone, so that nothing else is touched.
		_, err := z.client.call(ctx, http.MethodPatch, z.path(c.Old.ID), nil, map[string]string{"comment": c.Mark.String()}, nil)
		return gone(err)
	case c.Old.Type != c.Record.Type:
		// Both in one transaction.
		batch := map[string]any{"deletes": []map[string]string{{"id": c.Old.ID}}, "posts": []record{wanted(c)}}
		_, err := z.client.call(ctx, http.MethodPost, z.path("batch"), nil, batch, nil)
		return gone(err)
	}
	_, err := z.client.call(ctx, http.MethodPatch, z.path(c.Old.ID), nil, wanted(c), nil)
	return gone(err)
}

func gone(err error) error {
	if errors.Is(err, codeNoRecord) {
		return fmt.Errorf("%w: %w", dns.ErrChanged, err)
	}
	return err
}

// Package onepassword reads secrets from a 1Password Connect server.
// https://developer.1password.com/docs/connect/api-reference
package onepassword

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"skep/secrets"
)

// Config tunes a client; the zero value is fit for use.
type Config struct {
	Concurrency    int           // requests under way at once; 8
	Tries          uint          // of one request; 4
	RetryPause     time.Duration // before the second try, then more; 200ms
	RequestTimeout time.Duration // of one try; 10s
	// CacheFor is how long the names of vaults and items are remembered; 5m.
	// Values are never.
	CacheFor  time.Duration
	UserAgent string // "skep"
}

func (c Config) withDefaults() Config {
	if c.Concurrency <= 0 {
		c.Concurrency = 8
	}
	if c.Tries == 0 {
		c.Tries = 4
	}
	if c.RetryPause <= 0 {
		c.RetryPause = 200 * time.Millisecond
	}
	if c.RequestTimeout <= 0 {
		c.RequestTimeout = 10 * time.Second
	}
	if c.CacheFor <= 0 {
		c.CacheFor = 5 * time.Minute
	}
	if c.UserAgent == "" {
		c.UserAgent = "skep"
	}
	return c
}

// Client is a source over Connect. It asks once for the list of vaults, once
// for the list of each vault's items, and once for each item.
type Client struct {
	transport *transport
	cacheFor  time.Duration

	mu     sync.Mutex
	vaults directory
	items  map[string]directory // by vault id
	health Health               // of the last failure
	asked  time.Time            // for health
}

var _ secrets.Source = (*Client)(nil)

// New makes a client for the server at host, such as http://op-connect-api:8080.
func New(host string, token Token, config Config) (*Client, error) {
	base, err := url.Parse(strings.TrimSuffix(host, "/"))
	if err != nil { // which quotes the address, and a password in it
		return nil, errors.New("the address of 1Password Connect is no URL")
	}
	if base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.User != nil {
		return nil, fmt.Errorf("the address of 1Password Connect must be http(s)://host[:port], it is %q", base.Redacted())
	}
	config = config.withDefaults()
	return &Client{transport: newTransport(base, token, config), cacheFor: config.CacheFor, items: map[string]directory{}}, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.transport.client.CloseIdleConnections() }

// Versions lists the vaults' items; the lists have the versions.
func (c *Client) Versions(ctx context.Context, refs []secrets.Reference) secrets.Answers {
	return c.answer(ctx, refs, true, func(_ context.Context, found entry, refs []secrets.Reference) secrets.Answers {
		out := secrets.Answers{}
		for _, r := range refs {
			out[r] = secrets.Answer{Item: secrets.Item{ID: found.id, Version: found.version}}
		}
		return out
	})
}

// Read fetches every item once.
func (c *Client) Read(ctx context.Context, refs []secrets.Reference) secrets.Answers {
	return c.answer(ctx, refs, false, c.readItem)
}

// answer finds the vaults and the items that references name, and asks each
// item for its answers. fresh lists the items anew, whatever is remembered.
func (c *Client) answer(ctx context.Context, refs []secrets.Reference, fresh bool,
	ask func(context.Context, entry, []secrets.Reference) secrets.Answers,
) secrets.Answers {
	// A server that is gone is not asked for every other item in turn.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	refs = slices.Clone(refs)
	slices.SortFunc(refs, secrets.Reference.Compare)
	refs = slices.Compact(refs)
	out := collector{answers: secrets.Answers{}}
	var workers sync.WaitGroup
	find := func(names []string) (map[string]entry, map[string]error) { return c.findVaults(ctx, names) }
	for vault, refs := range located(refs, vaultOf, find, &out) {
		workers.Go(func() {
			find := func(names []string) (map[string]entry, map[string]error) {
				return c.findItems(ctx, vault, names, fresh)
			}
			for item, refs := range located(refs, itemOf, find, &out) {
				workers.Go(func() {
					answers := ask(ctx, item, refs)
					if gone := (*unreachableError)(nil); errors.As(answers[refs[0]].Err, &gone) {
						cancel(gone)
					}
					out.add(answers)
				})
			}
		})
	}
	workers.Wait()
	return out.answers
}

// readItem reads an item and takes the values that the references name.
func (c *Client) readItem(ctx context.Context, found entry, refs []secrets.Reference) secrets.Answers {
	it, err := c.item(ctx, found)
	if err == nil && it.answersTo(refs) {
		return c.values(ctx, it, refs)
	}
	if err != nil && !errors.Is(err, secrets.ErrNotFound) {
		return c.failItem(ctx, refs, err)
	}
	it.wipe()
	// The remembered id is that of an item that was renamed, archived or removed:
	// another one may have its name now.
	out := collector{answers: secrets.Answers{}}
	find := func(names []string) (map[string]entry, map[string]error) {
		return c.findItems(ctx, entry{id: found.vault, name: refs[0].Vault}, names, true)
	}
	for found, refs := range located(refs, itemOf, find, &out) {
		it, err := c.item(ctx, found)
		if err != nil {
			out.add(c.failItem(ctx, refs, err))
		} else {
			out.add(c.values(ctx, it, refs))
		}
	}
	return out.answers
}

func (c *Client) failItem(ctx context.Context, refs []secrets.Reference, err error) secrets.Answers {
	return secrets.Fail(refs, fmt.Errorf("read item %s: %w", refs[0].Item, c.explain(ctx, err)))
}

// values takes the values that references name from an item, and wipes it.
func (c *Client) values(ctx context.Context, it *item, refs []secrets.Reference) secrets.Answers {
	defer it.wipe()
	version := secrets.Item{ID: it.ID, Version: fmt.Sprint(it.Version)}
	out := secrets.Answers{}
	for _, r := range refs {
		value, err := c.value(ctx, it, r)
		out[r] = secrets.Answer{Item: version, Value: value, Err: err}
	}
	return out
}

func (c *Client) item(ctx context.Context, e entry) (*item, error) {
	body, err := c.transport.get(ctx, "v1", "vaults", e.vault, "items", e.id)
	if err != nil {
		return nil, err
	}
	defer clear(body)
	var it item
	if err := json.Unmarshal(body, &it); err != nil {
		it.wipe()
		// The error of encoding/json may quote what it could not read.
		return nil, errors.New("the answer of Connect is no item")
	}
	return &it, nil
}

func vaultOf(r secrets.Reference) string { return r.Vault }
func itemOf(r secrets.Reference) string  { return r.Item }

// located groups references by the vault or the item that they name, however
// they spell it, and answers those that name none.
func located(refs []secrets.Reference, name func(secrets.Reference) string,
	find func([]string) (map[string]entry, map[string]error), out *collector,
) map[entry][]secrets.Reference {
	byName := map[string][]secrets.Reference{}
	for _, r := range refs {
		byName[name(r)] = append(byName[name(r)], r)
	}
	found, failed := find(slices.Collect(maps.Keys(byName)))
	groups := map[entry][]secrets.Reference{}
	for name, refs := range byName {
		if e, ok := found[name]; ok {
			groups[e] = append(groups[e], refs...)
		} else {
			out.add(secrets.Fail(refs, failed[name]))
		}
	}
	return groups
}

// collector gathers answers of several goroutines.
type collector struct {
	mu      sync.Mutex
	answers secrets.Answers
}

func (c *collector) add(answers secrets.Answers) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.answers, answers)
}

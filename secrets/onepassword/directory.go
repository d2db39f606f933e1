package onepassword

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/1Password/connect-sdk-go/onepassword"

	"skep/secrets"
)

// entry is a vault or an item, as the list of it says.
type entry struct {
	vault   string // id of the item's vault
	id      string
	name    string
	version string // of an item
	// archived items are kept by Connect beside those that took their names:
	// their ids alone find them.
	archived bool
}

// directory is the list of vaults, or of the items of a vault.
type directory struct {
	entries []entry
	read    time.Time
}

// findVaults looks vaults up. Every name is in one of the two results.
func (c *Client) findVaults(ctx context.Context, names []string) (map[string]entry, map[string]error) {
	return c.lookup(ctx, catalogue{
		what: "vault", in: "what the Connect token may read", list: "the vaults",
		cached: func() directory { return c.vaults }, read: c.readVaults,
	}, names, false)
}

// findItems looks items of a vault up.
func (c *Client) findItems(ctx context.Context, vault entry, names []string, fresh bool) (map[string]entry, map[string]error) {
	return c.lookup(ctx, catalogue{
		what: "item", in: "vault " + vault.name, list: "the items of vault " + vault.name,
		cached: func() directory { return c.items[vault.id] },
		read:   func(ctx context.Context) (directory, error) { return c.readItems(ctx, vault) },
	}, names, fresh)
}

// catalogue is one kind of list: where it is remembered and how it is read.
type catalogue struct {
	what, in, list string           // what it lists, and where, in words
	cached         func() directory // under c.mu
	read           func(context.Context) (directory, error)
}

// lookup finds names or ids. The remembered list is used while it is young,
// unless fresh is asked for; a name that it lacks is looked for in a new one.
// The list is read once at most.
func (c *Client) lookup(ctx context.Context, list catalogue, names []string, fresh bool) (map[string]entry, map[string]error) {
	c.mu.Lock()
	d := list.cached()
	c.mu.Unlock()
	read := func() (err error) {
		fresh = true
		if d, err = list.read(ctx); err == nil {
			return nil
		}
		return fmt.Errorf("list %s: %w", list.list, c.explain(ctx, err))
	}
	if fresh || d.read.IsZero() || time.Since(d.read) >= c.cacheFor {
		if err := read(); err != nil {
			return nil, failEach(names, err)
		}
	}
	found, failed := map[string]entry{}, map[string]error{}
	for i, name := range names {
		e, err := d.find(list.what, name, list.in)
		if err != nil && !fresh {
			if err := read(); err != nil {
				return found, failEach(names[i:], err)
			}
			e, err = d.find(list.what, name, list.in)
		}
		if err != nil {
			failed[name] = err
		} else {
			found[name] = e
		}
	}
	return found, failed
}

func failEach(names []string, err error) map[string]error {
	failed := map[string]error{}
	for _, name := range names {
		failed[name] = err
	}
	return failed
}

func (c *Client) readVaults(ctx context.Context) (directory, error) {
	var list []onepassword.Vault
	if err := c.list(ctx, &list, "v1", "vaults"); err != nil {
		return directory{}, err
	}
	d := directory{read: time.Now()}
	for _, v := range list {
		d.entries = append(d.entries, entry{id: v.ID, name: v.Name})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.vaults = d
	return d, nil
}

func (c *Client) readItems(ctx context.Context, vault entry) (directory, error) {
	var list []struct {
		onepassword.Item
		State state `json:"state"`
	}
	if err := c.list(ctx, &list, "v1", "vaults", vault.id, "items"); err != nil {
		return directory{}, err
	}
	d := directory{read: time.Now()}
	for _, i := range list {
		if i.State != deleted {
			d.entries = append(d.entries, entry{vault: vault.id, id: i.ID, name: i.Title, version: fmt.Sprint(i.Version), archived: i.State == archived})
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.items[vault.id] = d
	return d, nil
}

func (c *Client) list(ctx context.Context, into any, path ...string) error {
	body, err := c.transport.get(ctx, path...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the answer of Connect is no list: %w", err)
	}
	return nil
}

// find finds the one entry of an id or a name. Ids come first: a name may look
// like the id of something else.
func (d directory) find(what, name, in string) (entry, error) {
	var named []entry
	var names []string
	for _, e := range d.entries {
		if strings.EqualFold(e.id, name) {
			return e, nil
		}
		if e.archived {
			continue
		}
		if strings.EqualFold(e.name, name) {
			named = append(named, e)
		}
		names = append(names, e.name)
	}
	switch len(named) {
	case 1:
		return named[0], nil
	case 0:
		return entry{}, &secrets.NotFoundError{What: what, Name: name, In: in, Near: secrets.Nearest(name, names)}
	}
	ids := make([]string, len(named))
	for i, e := range named {
		ids[i] = e.id
	}
	return entry{}, &secrets.AmbiguousError{What: what, Name: name, In: in, IDs: ids}
}

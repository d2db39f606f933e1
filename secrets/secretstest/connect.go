// Package secretstest has a stand-in for a 1Password Connect server and the
// conformance suite that every source passes.
package secretstest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/1Password/connect-sdk-go/onepassword"
)

// Connect answers as a Connect server does, by its published interface:
// https://github.com/1Password/connect/blob/main/docs/openapi/spec.yaml
// It is read-only, and its vaults are filled by the test.
type Connect struct {
	mux   *http.ServeMux
	token string

	mu       sync.Mutex
	vaults   []*vault
	requests []string
	faults   []Fault
	notReady map[string]string // dependency -> status
	states   map[string]string // of items by id, empty for those in use
	ids      map[string]int    // how often each was asked for
}

type vault struct {
	onepassword.Vault
	items  []*onepassword.Item
	hidden bool // not in the token's scope
}

// Fault spoils requests.
type Fault struct {
	Path       string // part of the path; empty for any
	Times      int    // how often; 0 is until ClearFaults
	Status     int    // answer this, 0 to answer properly
	RetryAfter int    // seconds
	Message    string
	Delay      time.Duration
	Cut        bool // close the connection instead of answering
	used       int
}

// NewConnect makes a server without vaults that takes one token.
func NewConnect(token string) *Connect {
	c := &Connect{mux: http.NewServeMux(), token: token, notReady: map[string]string{}, states: map[string]string{}, ids: map[string]int{}}
	c.routes()
	return c
}

// Serve answers until ctx ends.
func (c *Connect) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { stopped <- server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// Vault adds a vault and returns its id.
func (c *Connect) Vault(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := &vault{Vault: onepassword.Vault{ID: c.id("vault " + name), Name: name, Type: "USER_CREATED", AttrVersion: 1, ContentVersion: 1, CreatedAt: epoch, UpdatedAt: epoch}}
	c.vaults = append(c.vaults, v)
	return v.ID
}

// Hide takes a vault out of the token's scope.
func (c *Connect) Hide(vaultID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.vault(vaultID).hidden = true
}

// Item adds an item and returns its id. It completes what the test leaves out:
// ids, the vault, the version.
func (c *Connect) Item(vaultID string, item onepassword.Item) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.vault(vaultID)
	i := &item
	i.Vault.ID = v.ID
	i.ID = cmp.Or(i.ID, c.id("item "+v.ID+i.Title))
	i.Version = max(i.Version, 1)
	i.Category = cmp.Or(i.Category, onepassword.Login)
	i.CreatedAt, i.UpdatedAt = epoch, epoch
	for _, f := range i.Fields {
		f.ID = cmp.Or(f.ID, c.id("field "+f.Label))
		f.Type = cmp.Or(f.Type, onepassword.FieldTypeConcealed)
	}
	for _, f := range i.Files {
		f.ID = cmp.Or(f.ID, c.id("file "+f.Name))
		content, _ := f.Content()
		f.Size = len(content)
		f.ContentPath = fmt.Sprintf("/v1/vaults/%s/items/%s/files/%s/content", v.ID, i.ID, f.ID)
	}
	v.items = append(v.items, i)
	v.Items, v.ContentVersion = len(v.items), v.ContentVersion+1
	return i.ID
}

// Edit changes an item, which gives it the next version.
func (c *Connect) Edit(itemID string, edit func(*onepassword.Item)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range c.vaults {
		for _, i := range v.items {
			if i.ID == itemID {
				edit(i)
				i.Version++
				v.ContentVersion++
				return
			}
		}
	}
	panic("secretstest: no item " + itemID)
}

// Delete removes an item.
func (c *Connect) Delete(itemID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range c.vaults {
		v.items = slices.DeleteFunc(v.items, func(i *onepassword.Item) bool { return i.ID == itemID })
		v.Items = len(v.items)
	}
}

// Archive puts an item where people no longer see it: it is listed as archived.
func (c *Connect) Archive(itemID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states[itemID] = "ARCHIVED"
}

// Set sets a field without a section, as Edit does.
func (c *Connect) Set(itemID, label, value string) {
	c.Edit(itemID, func(i *onepassword.Item) {
		for _, f := range i.Fields {
			if f.Label == label {
				f.Value = value
				return
			}
		}
		panic("secretstest: no field " + label)
	})
}

// Inject adds a fault.
func (c *Connect) Inject(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, f)
}

// ClearFaults ends all faults.
func (c *Connect) ClearFaults() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = nil
}

// NotReady makes /health report a dependency, "sync", with a status other
// than ACTIVE; an empty status ends it.
func (c *Connect) NotReady(service, status string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notReady[service] = status
}

// Requests are the requests so far, "GET /v1/vaults", without those to /health
// and /heartbeat; it starts counting anew.
func (c *Connect) Requests() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.requests
	c.requests = nil
	return out
}

// epoch is the time of every item: the server knows no clock.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// id makes an identifier as 1Password's are, 26 of a-z and 0-9. The same things
// have the same at every run. Callers hold mu.
func (c *Connect) id(of string) string {
	c.ids[of]++
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", c.ids[of], of))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:26]
}

func (c *Connect) vault(id string) *vault {
	for _, v := range c.vaults {
		if v.ID == id {
			return v
		}
	}
	panic("secretstest: no vault " + id)
}

package webhook

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"skep/services/controlplane"
)

// Sources finds a source by what its URL says, with its secret.
type Sources interface {
	// Source is ErrNotFound where there is none. Its secret is the caller's to
	// wipe.
	Source(context.Context, controlplane.Provider, controlplane.Name) (controlplane.Source, error)
}

// known is what the handler needs of a source. id is 0 for one that does not
// exist: it verifies by a key that nobody has, and so does the same work.
type known struct {
	id     int64
	verify verifier
	fault  error // the source's secret is unfit: nothing is verified
	until  time.Time
}

type sourceKey struct {
	provider controlplane.Provider
	name     controlplane.Name
}

// maxKnown bounds what somebody who tries names can make the cache keep.
const maxKnown = 4096

// cache remembers sources for a short time, so that a delivery costs no
// decryption, and what does not exist, so that it costs no query.
type cache struct {
	sources Sources
	keep    time.Duration
	now     func() time.Time
	flight  singleflight.Group

	mu      sync.Mutex
	entries map[sourceKey]known
	epoch   int // goes up with each Forget: an answer from before it is not kept
}

func newCache(s Sources, keep time.Duration, now func() time.Time) *cache {
	return &cache{sources: s, keep: keep, now: now, entries: map[sourceKey]known{}}
}

func (c *cache) get(ctx context.Context, p controlplane.Provider, n controlplane.Name) (known, error) {
	key := sourceKey{p, n}
	c.mu.Lock()
	k, ok := c.entries[key]
	epoch := c.epoch
	c.mu.Unlock()
	if ok && c.now().Before(k.until) {
		return k, nil
	}
	// One question for all that wait: it outlives the one who asked first.
	answer, err, _ := c.flight.Do(string(p)+"/"+string(n), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		return c.ask(ctx, key, epoch)
	})
	if err != nil {
		return known{}, err
	}
	return answer.(known), nil
}

func (c *cache) ask(ctx context.Context, key sourceKey, epoch int) (known, error) {
	k := known{until: c.now().Add(c.keep)}
	source, err := c.sources.Source(ctx, key.provider, key.name)
	switch {
	case errors.Is(err, controlplane.ErrNotFound), err == nil && source.Disabled:
		k.verify = stranger(key.provider)
	case err != nil:
		return known{}, err
	default:
		defer source.Secret.Wipe()
		secret, err := source.Secret.Bytes()
		if err != nil {
			return known{}, err
		}
		if k.verify, k.fault = newVerifier(key.provider, secret); k.fault != nil {
			k.verify = stranger(key.provider)
		}
		k.id = source.ID
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch != epoch {
		return k, nil
	}
	if len(c.entries) >= maxKnown {
		c.makeRoom()
	}
	c.entries[key] = k
	return k, nil
}

// makeRoom drops what is out of date; if all is young, names without a source.
func (c *cache) makeRoom() {
	now := c.now()
	for key, k := range c.entries {
		if !now.Before(k.until) || k.id == 0 {
			delete(c.entries, key)
		}
	}
}

func (c *cache) forget(p controlplane.Provider, n controlplane.Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, sourceKey{p, n})
	c.epoch++
	c.flight.Forget(string(p) + "/" + string(n))
}

// stranger verifies nothing, in the time that it takes to verify: the key is
// one that nobody has.
func stranger(p controlplane.Provider) verifier {
	secret := rand.Text()
	if p == controlplane.Generic || p == controlplane.Salesforce {
		secret = standardPrefix + base64.StdEncoding.EncodeToString([]byte(secret))
	}
	v, err := newVerifier(p, []byte(secret))
	if err != nil {
		panic(err) // the secret above has the form that newVerifier asks for
	}
	return func(h http.Header, body []byte, now time.Time) bool {
		v(h, body, now)
		return false
	}
}

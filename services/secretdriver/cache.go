package secretdriver

import (
	"sync"
	"time"

	"skep/secrets"
)

// Cache keeps the last known values in memory, for the time that the source
// is away. What the source says itself always counts, and what it refuses is
// forgotten.
type Cache struct {
	keep time.Duration

	mu        sync.Mutex
	values    map[secrets.Reference]known
	awayUntil time.Time
}

type known struct {
	item  secrets.Item
	value secrets.Value
	at    time.Time
}

// awayFor is how long a source that did not answer is not asked for what is
// known: every wait for it holds up the other tasks of a node.
const awayFor = 10 * time.Second

// NewCache keeps values for a time after they were last read.
func NewCache(keep time.Duration) *Cache {
	return &Cache{keep: keep, values: map[secrets.Reference]known{}}
}

func (c *Cache) away() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Before(c.awayUntil)
}

// heard takes note of what the source answered, and drops what is too old.
func (c *Cache) heard(answers secrets.Answers) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for r, k := range c.values {
		if now.Sub(k.at) > c.keep {
			c.forget(r)
		}
	}
	c.awayUntil = time.Time{}
	for r, a := range answers {
		switch outcomeOf(a.Err) {
		case Given:
			c.remember(r, a, now)
		case Refused, NotFound:
			c.forget(r)
		case Unavailable:
			c.awayUntil = now.Add(awayFor)
		}
	}
}

func (c *Cache) remember(r secrets.Reference, a secrets.Answer, now time.Time) {
	if r.Attribute == "otp" { // a one-time password is soon over
		return
	}
	if clone, err := a.Value.Clone(); err == nil {
		c.forget(r)
		c.values[r] = known{a.Item, clone, now}
	}
}

func (c *Cache) forget(r secrets.Reference) {
	c.values[r].value.Wipe()
	delete(c.values, r)
}

// recall answers all references, or none.
func (c *Cache) recall(refs []secrets.Reference) (secrets.Answers, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := secrets.Answers{}
	for _, r := range refs {
		k, ok := c.values[r]
		if !ok || time.Since(k.at) > c.keep {
			out.Wipe()
			return nil, false
		}
		clone, err := k.value.Clone()
		if err != nil {
			out.Wipe()
			return nil, false
		}
		out[r] = secrets.Answer{Item: k.item, Value: clone}
	}
	return out, true
}

// Close wipes what is kept.
func (c *Cache) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.values {
		k.value.Wipe()
	}
	clear(c.values)
}

package secretdriver

import (
	"errors"
	"sync"
	"time"

	"skep/secrets"
)

// Cache keeps the last known values in memory, for the time that the source
// is away. What the source says itself, that an item is gone or not for us,
// always counts.
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
// known: every wait for it holds up all tasks that start.
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

// heard takes note of how the source answered.
func (c *Cache) heard(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.awayUntil = time.Time{}
	if errors.Is(err, secrets.ErrUnavailable) {
		c.awayUntil = time.Now().Add(awayFor)
	}
}

// remember keeps copies, and forgets what is too old.
func (c *Cache) remember(answers secrets.Answers) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for r, k := range c.values {
		if now.Sub(k.at) > c.keep {
			k.value.Wipe()
			delete(c.values, r)
		}
	}
	for r, a := range answers {
		clone, err := a.Value.Clone()
		if err != nil || r.Attribute == "otp" { // a one-time password is soon over
			clone.Wipe()
			continue
		}
		c.values[r].value.Wipe()
		c.values[r] = known{a.Item, clone, now}
	}
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

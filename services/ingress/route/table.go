package route

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Sites is the table of this process. Caddy runs one configuration in a
// process, and its modules have no other way to what outlives it.
var Sites = NewTable()

var errAbsent = errors.New("the site has no routes")

// Table holds the routes of all sites.
type Table struct {
	mu        sync.RWMutex
	entries   map[string]*entry
	ctx       caddy.Context // of the configuration that serves
	active    bool
	served    chan struct{} // closed when it is served for the first time
	serveOnce sync.Once
	retired   map[*version]bool
	pages     Page
}

type entry struct {
	want    Routes
	serving *version // nil before it was ever provisioned
}

// NewTable returns an empty table that is not served.
func NewTable() *Table {
	return &Table{entries: map[string]*entry{}, served: make(chan struct{}), retired: map[*version]bool{}}
}

// Want replaces what the sites should be, without serving it: the next call of
// Activate does. A site keeps what it serves until then.
func (t *Table) Want(sites map[string]Routes) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, routes := range sites {
		if e := t.entries[name]; e != nil {
			e.want = routes
		} else {
			t.entries[name] = &entry{want: routes}
		}
	}
}

// Activate provisions every site in ctx and serves it. A site that fails keeps
// the routes that it had, and its error is returned.
func (t *Table) Activate(ctx caddy.Context) map[string]error {
	t.mu.RLock()
	wants := make(map[string]Routes, len(t.entries))
	for name, e := range t.entries {
		wants[name] = e.want
	}
	t.mu.RUnlock()

	failed := map[string]error{}
	fresh := make(map[string]*version, len(wants))
	for _, name := range slices.Sorted(maps.Keys(wants)) {
		v, err := provision(ctx, wants[name])
		if err != nil {
			failed[name] = err
			continue
		}
		fresh[name] = v
	}
	t.mu.Lock()
	t.ctx, t.active = ctx, true
	var old []*version
	for name, v := range fresh {
		if e := t.entries[name]; e != nil {
			old = append(old, t.replace(e, v))
		} else {
			old = append(old, v)
		}
	}
	t.mu.Unlock()
	t.serveOnce.Do(func() { close(t.served) })
	t.drop(old...)
	return failed
}

// Swap provisions new routes of one site and serves them. When they fail, the
// site keeps what it had.
func (t *Table) Swap(name string, routes Routes) error {
	t.mu.RLock()
	ctx, active := t.ctx, t.active
	t.mu.RUnlock()
	if !active {
		return errors.New("no configuration is served")
	}
	v, err := provision(ctx, routes)
	if err != nil {
		return err
	}
	t.mu.Lock()
	e := t.entries[name]
	if e == nil {
		e = &entry{}
		t.entries[name] = e
	}
	e.want = routes
	old := t.replace(e, v)
	t.mu.Unlock()
	t.drop(old)
	return nil
}

// replace sets what an entry serves; the caller drops what comes back.
func (t *Table) replace(e *entry, v *version) *version {
	old := e.serving
	e.serving = v
	if old != nil {
		t.retired[old] = true
		for r := range t.retired {
			select {
			case <-r.done:
				delete(t.retired, r)
			default:
			}
		}
	}
	return old
}

// drop gives up the table's references.
func (t *Table) drop(versions ...*version) {
	for _, v := range versions {
		if v != nil {
			v.release()
		}
	}
}

// Keep forgets every site that is not among these.
func (t *Table) Keep(names map[string]bool) {
	t.mu.Lock()
	var old []*version
	for name, e := range t.entries {
		if !names[name] {
			old = append(old, t.replace(e, nil))
			delete(t.entries, name)
		}
	}
	t.mu.Unlock()
	t.drop(old...)
}

// Deactivate ends serving if ctx is the configuration that serves. Streams
// that are still open are closed by the modules that have them.
func (t *Table) Deactivate(ctx caddy.Context) {
	t.mu.Lock()
	if !t.active || t.ctx.Context != ctx.Context {
		t.mu.Unlock()
		return
	}
	t.active = false
	var all []*version
	for _, e := range t.entries {
		if e.serving != nil {
			all = append(all, e.serving)
		}
	}
	for v := range t.retired {
		all = append(all, v)
	}
	t.entries, t.retired = map[string]*entry{}, map[*version]bool{}
	t.mu.Unlock()
	for _, v := range all {
		v.cancel()
	}
}

// Draining counts the versions that only open requests keep.
func (t *Table) Draining() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n := 0
	for v := range t.retired {
		select {
		case <-v.done:
		default:
			n++
		}
	}
	return n
}

// Page is what a visitor sees when a site's upstream does not answer.
type Page struct {
	HTML       string
	RetryAfter time.Duration
}

// SetPage replaces the page.
func (t *Table) SetPage(p Page) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pages = p
}

func (t *Table) page() Page {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.pages
}

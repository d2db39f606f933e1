package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"skep/services/ingress/frame"
	"skep/services/ingress/label"
	"skep/services/ingress/route"
	"skep/services/ingress/socket"
)

// apply serves the parts of a turn: where the frame is the same, sites are
// swapped one by one; else Caddy loads a new frame. It returns who is to blame
// for what was refused.
func (c *Controller) apply(ctx context.Context, t *turn) (found []blame, changed bool, err error) {
	signature := t.signature()
	if signature != c.now.signature || c.now.frame == nil {
		f, err := c.assemble(t.plan, t.parts)
		if err != nil {
			return c.search(ctx, t, err)
		}
		if !bytes.Equal(f.JSON, c.now.frame) {
			return c.reload(ctx, t, f, signature)
		}
		c.now.signature, c.now.globals = signature, t.plan.Globals
	}
	return c.swap(t)
}

// signature is the same for turns that make the same frame.
func (t *turn) signature() string {
	var out strings.Builder
	out.WriteString(t.plan.Globals)
	fmt.Fprintf(&out, "%q", t.plan.Held)
	for _, p := range t.parts {
		out.WriteString(p.Outline)
	}
	return out.String()
}

func (c *Controller) assemble(p *label.Plan, parts []*frame.Part) (*frame.Frame, error) {
	return frame.Assemble(p.Globals, parts, frame.Options{
		Held: p.Held,
		App:  c.settings.raw, NotFound: c.settings.notFound, AccessLog: !c.settings.NoAccessLog, Metrics: true, Admin: c.settings.Admin,
		Network: socket.Network, Handover: time.Duration(c.settings.Handover),
	})
}

// swap changes the routes of the sites that are not what they were.
func (c *Controller) swap(t *turn) (found []blame, changed bool, err error) {
	keep := map[string]bool{}
	for _, p := range t.parts {
		name := string(p.ID)
		keep[name] = true
		if old, ok := c.now.sites[name]; ok && same(old, p.Routes) {
			c.now.parts[p.ID] = p
			continue
		}
		if err := route.Sites.Swap(name, p.Routes); err != nil {
			found = append(found, t.blameSite(p.ID, err)...)
			continue
		}
		c.now.sites[name], c.now.parts[p.ID] = p.Routes, p
		changed = true
	}
	c.keep(keep)
	return found, changed, nil
}

func same(a, b route.Routes) bool {
	return bytes.Equal(a.Primary, b.Primary) && bytes.Equal(a.Errors, b.Errors)
}

// keep forgets sites that are gone.
func (c *Controller) keep(names map[string]bool) {
	route.Sites.Keep(names)
	for name := range c.now.sites {
		if !names[name] {
			delete(c.now.sites, name)
			delete(c.now.parts, label.SiteID(name))
		}
	}
}

// blameSite blames who changed what a site is made of, else all of its
// sources.
func (t *turn) blameSite(id label.SiteID, err error) []blame {
	site := t.sites[id]
	if suspects := t.unaccepted(site.Sources); len(suspects) > 0 {
		return t.blameAll(suspects, id, label.RuleProvision, err)
	}
	if suspects := t.reversible(site.Libraries); len(suspects) > 0 {
		return t.blameAll(suspects, "", label.RuleProvision, err)
	}
	return t.blameAll(site.Sources, id, label.RuleProvision, err)
}

// reload makes Caddy load a frame with all sites.
func (c *Controller) reload(ctx context.Context, t *turn, f *frame.Frame, signature string) ([]blame, bool, error) {
	wants, keep := map[string]route.Routes{}, map[string]bool{}
	for _, p := range t.parts {
		wants[string(p.ID)], keep[string(p.ID)] = p.Routes, true
	}
	route.Sites.Want(wants)
	failed, err := c.load(f.JSON)
	if err != nil {
		route.Sites.Want(c.now.sites)
		return c.search(ctx, t, err)
	}
	c.now.frame, c.now.signature, c.now.globals = f.JSON, signature, t.plan.Globals
	var found []blame
	for _, p := range t.parts {
		if err := failed[string(p.ID)]; err != nil {
			found = append(found, t.blameSite(p.ID, err)...)
			continue
		}
		c.now.sites[string(p.ID)], c.now.parts[p.ID] = p.Routes, p
	}
	c.keep(keep)
	return found, true, nil
}

var errStopped = errors.New("the controller is stopping")

// load makes Caddy run a configuration and returns the sites that failed in
// it. If Caddy refuses it, what ran before runs on.
func (c *Controller) load(config json.RawMessage) (map[string]error, error) {
	c.loadMu.Lock()
	if c.stopped.Load() {
		c.loadMu.Unlock()
		return nil, errStopped
	}
	c.inLoad = true
	c.loadMu.Unlock()
	c.activationMu.Lock()
	before := c.activation.ctx
	c.activation.taken = false
	c.activationMu.Unlock()

	loader.Store(c)
	err := caddy.Load(config, true)
	loader.Store(nil)

	c.loadMu.Lock()
	c.inLoad = false
	c.loadMu.Unlock()
	c.activationMu.Lock()
	defer c.activationMu.Unlock()
	if err != nil {
		if c.activation.taken && !c.stopped.Load() {
			// Another app failed to start after the sites had moved.
			route.Sites.Want(c.now.sites)
			route.Sites.Activate(before)
			c.activation.ctx = before
		}
		return nil, fmt.Errorf("load the configuration: %w", err)
	}
	return c.activation.failed, nil
}

// search finds by bisection who makes Caddy refuse the whole. First it looks
// for what cannot be provisioned, without disturbing what runs; if all can be,
// it is something that only shows at the start, such as a port in use.
func (c *Controller) search(ctx context.Context, t *turn, cause error) ([]blame, bool, error) {
	if errors.Is(cause, errStopped) {
		return nil, false, cause
	}
	c.log.Warn("Caddy refuses the configuration, looking for the site", "error", frame.Plain(cause))
	defer func() { c.now.signature = "" }() // trials leave traces in Caddy; the next round loads again
	for i, try := range []func(*frame.Frame) error{c.validate, c.tryLoad} {
		found, err := c.bisect(ctx, t, try, i == 0)
		if len(found) > 0 || err != nil {
			c.now.frame = nil
			return found, true, err
		}
	}
	return nil, false, fmt.Errorf("no site is to blame for what Caddy refuses: %w", frame.Plain(cause))
}

func (c *Controller) bisect(ctx context.Context, t *turn, try func(*frame.Frame) error, harmless bool) ([]blame, error) {
	attempt := func(parts []*frame.Part) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		ordered := inOrder(t.parts, parts)
		f, err := c.assemble(t.plan, ordered)
		if err != nil {
			return err
		}
		return try(f)
	}
	if harmless {
		if err := attempt(nil); err != nil {
			return t.blameAll(t.plan.Options, globalOptions, label.RuleProvision, err), nil
		}
	}
	base, changes := t.split() // a trial that loads never takes away what runs
	if len(base) > 0 {
		if err := attempt(base); err != nil {
			if suspects := t.reversible(t.plan.Options); len(suspects) > 0 {
				return t.blameAll(suspects, globalOptions, label.RuleProvision, err), nil
			}
			base, changes = nil, t.parts
		}
	}
	_, refused := frame.Bisect(base, changes, attempt)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var found []blame
	for i, p := range changes {
		if err := refused[i]; err != nil {
			found = append(found, t.blameSite(p.ID, err)...)
		}
	}
	return found, nil
}

// split separates the parts that Caddy runs already from those that are new.
func (t *turn) split() (base, changes []*frame.Part) {
	for _, p := range t.parts {
		if old := t.c.now.parts[p.ID]; old != nil && old.Outline == p.Outline {
			base = append(base, p)
		} else {
			changes = append(changes, p)
		}
	}
	return base, changes
}

// inOrder is some of the parts, in the order of all.
func inOrder(all, some []*frame.Part) []*frame.Part {
	in := map[*frame.Part]bool{}
	for _, p := range some {
		in[p] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(p *frame.Part) bool { return !in[p] })
}

// validate has Caddy provision a frame without running it.
func (c *Controller) validate(f *frame.Frame) (err error) {
	var config caddy.Config
	if err := json.Unmarshal(f.JSON, &config); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in Caddy: %v", p)
		}
	}()
	return caddy.Validate(&config)
}

func (c *Controller) tryLoad(f *frame.Frame) error {
	_, err := c.load(f.JSON)
	return err
}

package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"skep/services/ingress/docker"
	"skep/services/ingress/frame"
	"skep/services/ingress/label"
	"skep/services/ingress/proxies"
	"skep/services/ingress/route"
	"skep/services/ingress/watch"
)

// Controller brings what Docker knows into Caddy, one update at a time.
type Controller struct {
	settings *prepared
	log      *slog.Logger
	engine   *docker.Client
	adapter  frame.Adapter

	startOnce sync.Once
	startErr  error
	listener  net.Listener
	cancel    context.CancelFunc
	done      chan struct{}
	stopped   atomic.Bool
	loadMu    sync.Mutex
	inLoad    bool

	// What follows belongs to the goroutine of run.
	rendered map[label.SourceID]*label.Rendered
	good     map[string]words // by key of the source
	claims   []label.Claim
	verdicts map[place]verdict
	now      serving
	networks []string

	activationMu sync.Mutex
	activation   activation

	report *reporter
	disk   chan *saved // holds the newest that is not stored yet
}

// serving is what Caddy was last told.
type serving struct {
	frame     []byte
	signature string
	globals   string
	parts     map[label.SiteID]*frame.Part
	sites     map[string]route.Routes
}

// activation is what became of the sites when Caddy took a configuration over.
type activation struct {
	ctx    caddy.Context
	failed map[string]error
	taken  bool
}

func newController(s Settings) (*Controller, error) {
	settings, err := s.prepare()
	if err != nil {
		return nil, err
	}
	engine, err := docker.New(s.DockerHost)
	if err != nil {
		return nil, err
	}
	c := &Controller{
		settings: settings, log: slog.New(caddyLog{}), engine: engine,
		adapter:  frame.Adapter{Policy: settings.policy},
		done:     make(chan struct{}),
		rendered: map[label.SourceID]*label.Rendered{}, good: map[string]words{},
		disk: make(chan *saved, 1),
	}
	c.now = serving{parts: map[label.SiteID]*frame.Part{}, sites: map[string]route.Routes{}}
	c.report = newReporter()
	return c, nil
}

// activated is called whenever Caddy starts a configuration with the app; the
// first time, the controller starts too.
func (c *Controller) activated(ctx caddy.Context, failed map[string]error) error {
	c.activationMu.Lock()
	c.activation = activation{ctx, failed, true}
	c.activationMu.Unlock()
	c.startOnce.Do(func() {
		if c.settings.Status != "off" {
			c.listener, c.startErr = net.Listen("tcp", c.settings.Status)
			if c.startErr != nil {
				return
			}
		}
		own, cancel := context.WithCancel(context.WithoutCancel(ctx.Context))
		c.cancel = cancel
		go c.run(own)
	})
	return c.startErr
}

// Destruct stops the controller and waits for it, unless it waits for Caddy,
// which waits for this; then Caddy refuses what it wanted to load, and it ends.
func (c *Controller) Destruct() error {
	c.loadMu.Lock()
	c.stopped.Store(true)
	waits := c.inLoad
	c.loadMu.Unlock()
	if c.cancel != nil {
		c.cancel()
		if !waits {
			<-c.done
		}
	}
	return c.engine.Close()
}

func (c *Controller) run(ctx context.Context) {
	defer close(c.done)
	var group sync.WaitGroup
	defer group.Wait()
	if c.listener != nil {
		group.Go(func() { c.serveStatus(ctx) })
	}
	saving, saved := context.WithCancel(context.WithoutCancel(ctx))
	defer saved() // when nothing more is stored
	group.Go(func() { c.keepOnDisk(saving) })
	route.Sites.SetPage(c.settings.page)
	c.restore()

	states := make(chan label.State, 1)
	w := &watch.Watch{
		Engine: c.engine, Log: c.log, Connected: c.report.connected,
		Options: watch.Options{
			Prefix: c.settings.LabelPrefix, StoppedToo: c.settings.StoppedToo, Throttle: time.Duration(c.settings.Throttle),
			TaskPoll: time.Duration(c.settings.TaskPoll), Resync: time.Duration(c.settings.Resync), Retry: 5 * time.Second,
		},
		Publish: func(s label.State) {
			// The newest state wins: one that was not looked at is thrown away.
			select {
			case <-states:
			default:
			}
			states <- s
		},
	}
	group.Go(func() {
		if err := w.Run(ctx); !errors.Is(err, context.Canceled) {
			c.log.Error("the watch of Docker ended", "error", err)
		}
	})
	for {
		select {
		case <-ctx.Done():
			return
		case state := <-states:
			if err := c.update(ctx, state); err != nil && ctx.Err() == nil {
				c.log.Error("the update failed; what was served is still served", "error", err)
				c.report.failed(err)
			}
		}
	}
}

// restore serves the last good configuration until Docker was asked.
func (c *Controller) restore() {
	s, err := load(c.settings.StatePath)
	if err != nil {
		c.log.Error("there is no last good configuration", "error", err)
		return
	}
	if s == nil {
		return
	}
	c.claims = s.Claims
	if s.Good != nil {
		c.good = s.Good
	}
	route.Sites.Want(s.Sites)
	failed, err := c.load(s.Frame)
	if err != nil {
		c.log.Error("the last good configuration is refused", "error", err)
		return
	}
	c.now.frame, c.now.sites = s.Frame, s.Sites
	for site, err := range failed {
		delete(c.now.sites, site)
		c.log.Error("a site of the last good configuration is refused", "site", site, "error", frame.Plain(err))
	}
	c.report.restored()
	c.log.Info("serving the last good configuration", "sites", len(s.Sites))
}

// update brings one state into Caddy.
func (c *Controller) update(ctx context.Context, state label.State) error {
	began := time.Now()
	networks, err := c.ingressNetworks(ctx)
	if err != nil {
		return err
	}
	sources := label.Sources(state, label.Settings{
		Prefix: c.settings.LabelPrefix, Networks: networks, VirtualIPs: c.settings.VirtualIPs, Policy: c.settings.policy,
	})
	if base, err := c.baseFile(); err != nil {
		return err
	} else if base != nil {
		sources = append([]label.Source{*base}, sources...)
	}
	proxies.Update(state) // before a site is served that asks who is believed
	t := &turn{c: c, sources: sources, replaced: map[string]bool{}, dropped: map[place]bool{}}
	changed, err := t.run(ctx)
	if err != nil {
		return err
	}
	c.report.updated(t, time.Since(began), changed)
	if changed {
		c.store()
	}
	return nil
}

// ingressNetworks are named by the settings, or those of the own container.
func (c *Controller) ingressNetworks(ctx context.Context) ([]string, error) {
	if len(c.settings.Networks) > 0 {
		return c.settings.Networks, nil
	}
	if c.networks == nil {
		own, err := c.engine.OwnNetworks(ctx)
		if err != nil {
			return nil, err
		}
		c.networks = own
	}
	return c.networks, nil
}

// baseFile is the Caddyfile that labels extend. Who can write the ingress's
// files is trusted.
func (c *Controller) baseFile() (*label.Source, error) {
	path := c.settings.CaddyfilePath
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the base Caddyfile: %w", err)
	}
	if strings.TrimSpace(string(text)) == "" {
		return nil, nil
	}
	return &label.Source{ID: "file:" + label.SourceID(path), Kind: label.KindFile, Name: path, Trusted: true, Caddyfile: text}, nil
}

// store hands the newest state to the goroutine that writes it.
func (c *Controller) store() {
	s := &saved{Frame: c.now.frame, Sites: map[string]route.Routes{}, Claims: c.claims, Good: map[string]words{}}
	for name, routes := range c.now.sites {
		s.Sites[name] = routes
	}
	for key, w := range c.good {
		s.Good[key] = w
	}
	select {
	case <-c.disk:
	default:
	}
	c.disk <- s
}

// storeDelay collects what changes in quick succession.
const storeDelay = time.Second

// keepOnDisk writes the last good configuration whenever there is a new one.
func (c *Controller) keepOnDisk(ctx context.Context) {
	write := func(s *saved) {
		if err := s.store(c.settings.StatePath); err != nil {
			c.log.Error("the configuration would be lost at a restart", "error", err)
		}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C: // what came meanwhile waits in the channel
		case <-ctx.Done():
		}
		select {
		case s := <-c.disk:
			write(s)
			timer.Reset(storeDelay)
		case <-ctx.Done():
			select {
			case s := <-c.disk:
				write(s)
			default:
			}
			return
		}
	}
}

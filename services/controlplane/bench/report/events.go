package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"skep/services/controlplane"
	"skep/services/controlplane/api"
	"skep/services/controlplane/engine"
)

const (
	followers = 1000
	// between two events: the feed paces itself below it.
	eventPause = 200 * time.Millisecond
	protocol   = "skep.events"
)

// measureEvents is about the way of one event to many clients, which are a
// process of their own.
func measureEvents(ctx context.Context, b *bed, p plan, out io.Writer) (err error) {
	s, _, _, err := b.store(ctx, "events")
	if err != nil {
		return err
	}
	defer s.Close()
	token, _, err := s.CreateToken(ctx, "report", []controlplane.Scope{controlplane.ScopeRead}, time.Time{})
	if err != nil {
		return err
	}
	shown, err := token.Bytes()
	if err != nil {
		return err
	}
	real, err := b.handler(s, engine.Starter{})
	if err != nil {
		return err
	}
	flow, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- real.Run(flow) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-ended)
	}()
	plain := &broadcaster{clients: map[chan []byte]struct{}{}}
	skep := &fanout{name: "skep-server", handler: real, send: func(data []byte) error {
		return s.Publish(ctx, controlplane.Event{Topic: "project/cluster", Type: "bench", Data: data})
	}}
	bare := &fanout{name: "bare broadcast", handler: plain, send: plain.send}
	for _, f := range []*fanout{bare, skep} {
		if err := f.open(ctx, string(shown), p.progress); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		defer func() { err = errors.Join(err, f.close()) }()
	}
	if err := p.inTurn("events", bare.round(ctx, p.length), skep.round(ctx, p.length)); err != nil {
		return err
	}
	fmt.Fprintf(out, `
### An event reaches %d clients

One event at a time to %[1]d WebSocket clients in a process of their own, from before it is published until a client has it. *All* is until
the last client has it, the median of all events. Memory is the heap and the stacks that a client adds to the server.

| | p50 | p99 | all | memory a client |
|---|--:|--:|--:|--:|
`, followers)
	for _, f := range []*fanout{bare, skep} {
		fmt.Fprintf(out, "| %s | %s | %s | %s | %.1f KB |\n", f.name, ms(median(f.took.p50)), ms(median(f.took.p99)), ms(median(f.last)), float64(f.memory)/followers/1000)
	}
	fmt.Fprintf(out, "| ratio | %s | %s | %s | %s |\n", ratio(median(skep.took.p50), median(bare.took.p50)), ratio(median(skep.took.p99), median(bare.took.p99)),
		ratio(median(skep.last), median(bare.last)), ratio(skep.memory, bare.memory))
	fmt.Fprint(out, `
- *bare broadcast* writes the same message by the same library, from a goroutine for each client, out of memory; skep-server stores the event first,
  so that a client that was away gets it too, and hears of it by NOTIFY as every other replica does.
`)
	return nil
}

// fanout is a server of events and its clients.
type fanout struct {
	name    string
	handler http.Handler
	send    func(data []byte) error

	site    *site
	clients *exec.Cmd
	stdin   io.Closer
	said    *json.Decoder
	memory  int64
	took    series
	last    []time.Duration
}

func (f *fanout) open(ctx context.Context, token string, progress io.Writer) (err error) {
	before := inUse()
	if f.site, err = serve(f.handler); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, roleClients)
	cmd.Stderr = progress
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	f.clients, f.stdin, f.said = cmd, stdin, json.NewDecoder(stdout)
	// The clients end when standard input does.
	if err := json.NewEncoder(stdin).Encode(clientsConfig{"ws://" + f.site.address + api.Prefix + "/events", token, followers}); err != nil {
		return err
	}
	fmt.Fprintf(progress, "events: %d clients of %s\n", followers, f.name)
	var ready report
	if err := f.said.Decode(&ready); err != nil {
		return fmt.Errorf("clients do not say that they are ready: %w", err)
	}
	f.memory = inUse() - before
	return nil
}

func (f *fanout) close() error {
	var err error
	if f.clients != nil {
		f.stdin.Close()
		err = f.clients.Wait()
	}
	if f.site != nil {
		err = errors.Join(err, f.site.stop())
	}
	return err
}

// inUse is the heap and the stacks of this process. What was freed by a first
// collection's finalizers goes with the second.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func (f *fanout) round(ctx context.Context, length time.Duration) func(bool) error {
	return func(keep bool) error {
		all := &latencies{}
		var last []time.Duration
		tick := time.NewTicker(eventPause)
		defer tick.Stop()
		for start := time.Now(); time.Since(start) < length; {
			data, err := json.Marshal(stamp{time.Now().UnixNano()})
			if err != nil {
				return err
			}
			if err := f.send(data); err != nil {
				return err
			}
			var r report
			if err := f.said.Decode(&r); err != nil {
				return fmt.Errorf("%s: the clients are gone: %w", f.name, err)
			}
			most := time.Duration(0)
			for _, ns := range r.Took {
				all.add(time.Duration(ns))
				most = max(most, time.Duration(ns))
			}
			last = append(last, most)
			select {
			case <-tick.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if keep {
			f.took.add(all)
			f.last = append(f.last, median(last))
		}
		return nil
	}
}

// broadcaster is the least that brings a message to many.
type broadcaster struct {
	mu      sync.Mutex
	clients map[chan []byte]struct{}
}

func (b *broadcaster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{protocol}})
	if err != nil {
		return // it has answered
	}
	defer conn.CloseNow()
	ctx := conn.CloseRead(r.Context())
	messages := make(chan []byte, 16)
	b.mu.Lock()
	b.clients[messages] = struct{}{}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.clients, messages)
	}()
	if conn.Write(ctx, websocket.MessageText, []byte("{}")) != nil {
		return // the client counts
	}
	for {
		select {
		case m := <-messages:
			if conn.Write(ctx, websocket.MessageText, m) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (b *broadcaster) send(data []byte) error {
	message, err := json.Marshal(api.Event{ID: 1, Topic: "project/cluster", Type: "bench", At: time.Now().UTC(), Data: data})
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.clients {
		c <- message
	}
	return nil
}

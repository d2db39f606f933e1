package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"skep/services/controlplane/api"
	"skep/services/controlplane/child"
)

// clientsConfig is what the process of the clients is told.
type clientsConfig struct {
	URL   string
	Token string
	Count int
}

// stamp is an event's data: when it was sent, by the clock of this machine.
type stamp struct {
	Sent int64 `json:"sent"` // ns
}

// report is what the clients say of one event; an empty one, that all of them
// are there.
type report struct {
	Took []int64 // ns
}

// handshakes is how many clients come at once.
const handshakes = 20

// follow is the process of the clients.
func follow(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	var c clientsConfig
	ctx, err := child.Config(ctx, stdin, &c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	opened, took, ended := make(chan struct{}, c.Count), make(chan int64, c.Count), make(chan error, c.Count)
	places := make(chan struct{}, handshakes)
	for range c.Count {
		go func() { ended <- c.client(ctx, places, opened, took) }()
	}
	left := c.Count
	defer func() {
		cancel()
		for range left {
			<-ended
		}
	}()
	parent, ready := json.NewEncoder(stdout), 0
	all := report{}
	for {
		select {
		case <-opened:
			if ready++; ready == c.Count {
				err = parent.Encode(report{})
			}
		case ns := <-took:
			if all.Took = append(all.Took, ns); len(all.Took) == c.Count {
				err = parent.Encode(all)
				all.Took = all.Took[:0]
			}
		case err = <-ended:
			left--
			if ctx.Err() == nil && err == nil {
				err = errors.New("a client was sent away")
			}
		case <-ctx.Done():
			return nil // with the parent
		}
		if ctx.Err() == nil && err != nil {
			return err
		}
	}
}

// client notes when events come.
func (c clientsConfig) client(ctx context.Context, places chan struct{}, opened chan<- struct{}, took chan<- int64) error {
	places <- struct{}{}
	conn, answer, err := websocket.Dial(ctx, c.URL, &websocket.DialOptions{
		Subprotocols: []string{protocol}, HTTPHeader: http.Header{"Authorization": {"Bearer " + c.Token}},
	})
	<-places
	if err != nil {
		if answer != nil {
			err = fmt.Errorf("%s: %w", answer.Status, err)
		}
		return err
	}
	defer conn.CloseNow()
	for first := true; ; first = false {
		_, message, err := conn.Read(ctx)
		now := time.Now().UnixNano()
		if err != nil {
			return err
		}
		if first {
			opened <- struct{}{}
			continue
		}
		var event api.Event
		var sent stamp
		if err := json.Unmarshal(message, &event); err != nil {
			return err
		}
		if err := json.Unmarshal(event.Data, &sent); err != nil {
			return err
		}
		took <- now - sent.Sent
	}
}

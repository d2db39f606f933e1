package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"skep/services/controlplane/engine"
	"skep/services/controlplane/store"
)

// health asks whether a worker with these settings can work: the engine takes
// connections, and the database answers.
func health(ctx context.Context, get settings) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	address, err := engine.AddressFrom(get)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(address.Host, strconv.Itoa(address.Port)))
	if err != nil {
		return fmt.Errorf("the workflow engine does not answer: %w", err)
	}
	conn.Close()
	url, keys, err := get.database()
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, url, keys)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.Ping(ctx)
}

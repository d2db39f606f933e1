package hatchet

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// alone takes over at once what an engine has left that did not end in order:
// Hatchet would wait for a minute until it is certain. It does nothing while
// another engine like this one has the database, as far as the session of each
// says, which ends with its process. What it returns ends this one's.
func alone(ctx context.Context, databaseURL string) (leave func(context.Context) error, err error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return nil, fmt.Errorf("look for other workflow engines: %w", err)
	}
	defer func() {
		if err != nil {
			_ = conn.Close(ctx)
		}
	}()
	var only bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock(hashtextextended('skep workflow engine', 0))").Scan(&only); err != nil {
		return nil, fmt.Errorf("look for other workflow engines: %w", err)
	}
	if !only {
		return conn.Close, nil
	}
	// Partitions are engines, and have the tenant; the leases are of its queues.
	for _, statement := range []string{
		`UPDATE "ControllerPartition" SET "lastHeartbeat" = now() - interval '1 hour'`,
		`UPDATE "SchedulerPartition" SET "lastHeartbeat" = now() - interval '1 hour'`,
		`UPDATE "TenantWorkerPartition" SET "lastHeartbeat" = now() - interval '1 hour'`,
		`DELETE FROM "Lease"`,
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return nil, fmt.Errorf("take over from the last workflow engine: %w", err)
		}
	}
	return conn.Close, nil
}

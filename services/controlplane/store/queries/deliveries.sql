-- name: AddDelivery :one
-- The second branch runs for a replay alone. It finds nothing if the first copy is being committed this moment.
WITH fresh AS (
    INSERT INTO delivery (source_id, delivery_id, event, headers, body, trace)
    VALUES (@source_id, @delivery_id, @event, @headers, @body, @trace)
    ON CONFLICT (source_id, delivery_id) DO NOTHING
    RETURNING id
)
SELECT fresh.id, true AS fresh FROM fresh
UNION ALL
SELECT d.id, false FROM delivery d
WHERE d.source_id = @source_id AND d.delivery_id = @delivery_id AND NOT EXISTS (SELECT FROM fresh)
LIMIT 1;

-- name: DeliveryByKey :one
SELECT id FROM delivery WHERE source_id = @source_id AND delivery_id = @delivery_id;

-- name: TellDeliveries :exec
SELECT pg_notify('skep_delivery', '');

-- name: LockDueSources :many
-- One dispatcher at a time claims from a source; another passes on. The lock ends with the transaction.
WITH due AS MATERIALIZED (
    SELECT s.id
    FROM source s
    CROSS JOIN LATERAL (
        SELECT o.id, o.next_at FROM delivery o
        WHERE o.source_id = s.id AND o.state = 'stored'
        ORDER BY o.id LIMIT 1
    ) oldest
    WHERE oldest.next_at <= clock_timestamp()
    ORDER BY oldest.id
    LIMIT @max_rows
)
SELECT due.id FROM due WHERE pg_try_advisory_xact_lock(3852013, (due.id % 2147483647)::integer);

-- name: ClaimDeliveries :many
-- This statement begins after the locks are held, so it sees what the last claims of these sources took. It goes as far
-- as the first delivery that is not due, which another dispatcher has.
WITH batch AS MATERIALIZED (
    -- A bit of every source before more of one.
    SELECT b.id
    FROM unnest(@sources::bigint[]) AS src (id)
    CROSS JOIN LATERAL (
        SELECT f.id, row_number() OVER w AS place, bool_and(f.next_at <= clock_timestamp()) OVER w AS due
        FROM (
            SELECT o.id, o.next_at FROM delivery o
            WHERE o.source_id = src.id AND o.state = 'stored'
            ORDER BY o.id
            LIMIT @max_rows
        ) f
        WINDOW w AS (ORDER BY f.id)
    ) b
    WHERE b.due
    ORDER BY b.place, b.id
    LIMIT @max_rows
), taken AS (
    UPDATE delivery d
    SET attempts = d.attempts + 1, next_at = clock_timestamp() + make_interval(secs => @lease_seconds::float8)
    FROM batch
    WHERE d.id = batch.id AND d.state = 'stored'
    RETURNING d.*
)
SELECT t.id, t.source_id, s.provider, t.delivery_id, t.event, t.headers, t.body, t.received, t.state, t.attempts, t.error,
    t.run_id, t.dispatched, t.trace
FROM taken t
JOIN source s ON s.id = t.source_id
ORDER BY t.id;

-- name: SettleDelivery :execrows
UPDATE delivery
SET state = @state, run_id = @run_id, error = @error,
    dispatched = CASE WHEN @state::text = 'dispatched' THEN clock_timestamp() ELSE dispatched END
WHERE id = @id AND state = 'stored';

-- name: PostponeDelivery :execrows
UPDATE delivery
SET next_at = clock_timestamp() + make_interval(secs => @delay_seconds::float8), error = @error
WHERE id = @id AND state = 'stored';

-- name: ReleaseDeliveries :exec
-- Those that were claimed and not tried are as they were before.
UPDATE delivery
SET next_at = clock_timestamp(), attempts = greatest(attempts - 1, 0)
WHERE id = ANY(@ids::bigint[]) AND state = 'stored';

-- name: Redeliver :execrows
UPDATE delivery
SET state = 'stored', next_at = clock_timestamp(), attempts = 0, error = '', run_id = '', dispatched = NULL
WHERE id = @id AND state <> 'stored';

-- name: DeliveryState :one
SELECT state FROM delivery WHERE id = @id;

-- name: Delivery :one
SELECT d.id, d.source_id, s.provider, d.delivery_id, d.event, d.headers, d.body, d.received, d.state, d.attempts, d.error,
    d.run_id, d.dispatched, d.trace
FROM delivery d
JOIN source s ON s.id = d.source_id
WHERE d.id = @id;

-- name: ListDeliveries :many
-- Without the bodies.
SELECT d.id, d.source_id, s.provider, d.delivery_id, d.event, d.headers, d.received, d.state, d.attempts, d.error,
    d.run_id, d.dispatched
FROM delivery d
JOIN source s ON s.id = d.source_id
WHERE (@before::bigint = 0 OR d.id < @before) AND (@source_id::bigint = 0 OR d.source_id = @source_id)
    AND (@state::text = '' OR d.state = @state)
ORDER BY d.id DESC
LIMIT @max_rows;

-- name: PruneDeliveries :execrows
-- What waits is not old, however long it waits.
DELETE FROM delivery
WHERE id IN (SELECT o.id FROM delivery o WHERE o.received < @before AND o.state <> 'stored' LIMIT @max_rows);

-- name: Backlog :one
SELECT count(*), coalesce(min(received), now())::timestamptz AS oldest FROM delivery WHERE state = 'stored';

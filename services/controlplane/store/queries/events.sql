-- name: PublishEvent :exec
INSERT INTO event (topic, type, data) VALUES (@topic, @type, @data);

-- name: ShowEvents :one
SELECT show_events();

-- name: TellEvents :exec
SELECT pg_notify('skep_event', @id::text);

-- name: EventsSince :many
SELECT id::bigint AS id, topic, type, at, data FROM event
WHERE id > @after::bigint AND (cardinality(@topics::text[]) = 0 OR topic = ANY(@topics))
ORDER BY id
LIMIT @max_rows;

-- name: LastEvent :one
SELECT coalesce(max(id), 0)::bigint FROM event;

-- name: PruneEvents :execrows
DELETE FROM event WHERE at < @before;

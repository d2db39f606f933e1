-- name: PutPreview :one
INSERT INTO preview (project, number, commit, stacks, hosts, expires)
VALUES (@project, @number, @commit, @stacks, @hosts, @expires)
ON CONFLICT (project, number) DO UPDATE
SET commit = excluded.commit, stacks = excluded.stacks, hosts = excluded.hosts, expires = excluded.expires, updated = now()
RETURNING *;

-- name: Preview :one
SELECT * FROM preview WHERE project = @project AND number = @number;

-- name: ListPreviews :many
SELECT * FROM preview
WHERE (@project::text = '' OR project = @project) AND (project, number) > (@after_project::text, @after_number::integer)
ORDER BY project, number
LIMIT @max_rows;

-- name: ExpiredPreviews :many
SELECT * FROM preview WHERE expires <= now() ORDER BY expires LIMIT @max_rows;

-- name: DeletePreview :execrows
DELETE FROM preview WHERE project = @project AND number = @number;

-- name: PutTask :one
INSERT INTO task (name, priority, spec)
VALUES (@name, @priority, @spec)
ON CONFLICT (name) DO UPDATE SET priority = excluded.priority, spec = excluded.spec, updated = now()
RETURNING *;

-- name: Task :one
SELECT * FROM task WHERE name = @name;

-- name: ListTasks :many
SELECT * FROM task WHERE name > @after ORDER BY name LIMIT @max_rows;

-- name: DeleteTask :execrows
DELETE FROM task WHERE name = @name;

-- name: PutSchedule :one
INSERT INTO schedule (name, task, cron, zone, overlap, paused, next)
VALUES (@name, @task, @cron, @zone, @overlap, @paused, sqlc.narg(next))
ON CONFLICT (name) DO UPDATE
SET task = excluded.task, cron = excluded.cron, zone = excluded.zone, overlap = excluded.overlap,
    paused = excluded.paused, next = excluded.next
RETURNING *;

-- name: Schedule :one
SELECT * FROM schedule WHERE name = @name;

-- name: ListSchedules :many
SELECT * FROM schedule WHERE name > @after ORDER BY name LIMIT @max_rows;

-- name: DueSchedules :many
SELECT * FROM schedule
WHERE NOT paused AND next <= now()
ORDER BY next
LIMIT @max_rows;

-- name: AdvanceSchedule :execrows
UPDATE schedule SET last = next, next = sqlc.narg(next)
WHERE name = @name AND next = @was AND NOT paused;

-- name: DeleteSchedule :execrows
DELETE FROM schedule WHERE name = @name;

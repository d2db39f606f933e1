-- name: LockQueue :exec
-- Until the transaction ends: runs become visible in the order of their seq.
SELECT pg_advisory_xact_lock(hashtextextended('skep runs of ' || @queue::text, 0));

-- name: StartRun :one
WITH fresh AS (
    INSERT INTO run (id, key, kind, project, task, queue, priority, input, delivery, supersedes)
    VALUES (@id, @key, @kind, @project, @task, @queue, @priority, @input, coalesce(nullif(@delivery::bigint, 0), last_delivery()),
        @supersedes)
    ON CONFLICT (key) DO NOTHING
    RETURNING id
)
SELECT fresh.id, true AS created FROM fresh
UNION ALL
SELECT r.id, false FROM run r WHERE r.key = @key AND NOT EXISTS (SELECT FROM fresh)
LIMIT 1;

-- name: RunByKey :one
SELECT * FROM run WHERE key = @key;

-- name: Run :one
SELECT * FROM run WHERE id = @id;

-- name: BeginRun :execrows
-- A run that began once may go on, whatever came before it since.
UPDATE run r SET state = 'running', started = coalesce(r.started, now())
WHERE r.id = @id AND (r.state = 'running' OR r.state = 'queued' AND NOT EXISTS (
    SELECT FROM run o
    WHERE o.queue = r.queue AND o.queue <> '' AND o.state IN ('queued', 'running')
        AND (o.delivery, o.seq) < (r.delivery, r.seq)
));

-- name: FirstRun :one
-- What the queue of a run that is not over is to do next, that run at the latest.
SELECT f.id, f.priority, f.state
FROM run own
JOIN run f ON f.queue = own.queue AND f.state IN ('queued', 'running')
WHERE own.id = @id AND own.state IN ('queued', 'running')
    AND (f.state = 'running' OR (f.delivery, f.seq) <= (own.delivery, own.seq))
ORDER BY (f.state = 'running') DESC, f.delivery, f.seq
LIMIT 1;

-- name: WaitingRuns :many
-- Some of the runs that are not over and that nobody has a step of; another time, others.
SELECT r.id, r.queue, r.priority
FROM run r
WHERE r.state IN ('queued', 'running') AND r.created < @before
    AND NOT EXISTS (SELECT FROM effect e WHERE e.run_id = r.id AND e.result IS NULL AND e.until > now())
ORDER BY random()
LIMIT @max_rows;

-- name: FinishRun :execrows
UPDATE run SET state = @state, output = @output, error = @error, ended = now()
WHERE id = @id AND state IN ('queued', 'running');

-- name: CancelRun :execrows
UPDATE run SET state = 'cancelled', error = @error, ended = now()
WHERE id = @id AND state IN ('queued', 'running');

-- name: SupersedeRuns :exec
WITH older AS (
    SELECT o.id
    FROM run o
    JOIN run newest ON newest.id = @than AND newest.supersedes AND newest.queue = o.queue AND newest.project = o.project
    WHERE o.queue <> '' AND o.state IN ('queued', 'running') AND (o.delivery, o.seq) < (newest.delivery, newest.seq)
        AND stands_for(newest.kind, o.kind)
    ORDER BY o.seq
    FOR UPDATE OF o
)
UPDATE run r SET state = 'superseded', error = @error, ended = now()
FROM older
WHERE r.id = older.id AND r.state IN ('queued', 'running');

-- name: YieldRun :exec
-- A run that comes late, after a newer one of its like, is superseded as it arrives, whatever became of the newer one.
UPDATE run r SET state = 'superseded', error = 'run ' || newer.id || ' took its place', ended = now()
FROM (
    SELECT n.id
    FROM run n
    JOIN run own ON own.id = @id AND own.supersedes AND own.queue = n.queue AND own.project = n.project
    WHERE n.queue <> '' AND n.supersedes AND n.state <> 'cancelled' AND n.delivery > own.delivery AND stands_for(n.kind, own.kind)
    ORDER BY n.delivery DESC
    LIMIT 1
) newer
WHERE r.id = @id;

-- name: ListRuns :many
-- Without input and output.
SELECT seq, id, key, kind, project, task, queue, priority, state, error, created, started, ended
FROM run
WHERE (@before::bigint = 0 OR seq < @before) AND (@project::text = '' OR project = @project)
    AND (@task::text = '' OR task = @task) AND (@state::text = '' OR state = @state)
ORDER BY seq DESC
LIMIT @max_rows;

-- name: DeployedCommit :one
-- Of the last deploy of all stacks that succeeded; a command's and a rollback's are of some alone, or of no commit.
SELECT coalesce(output ->> 'commit', input -> 'change' ->> 'commit', '')::text
FROM run
WHERE project = @project AND kind = 'deploy' AND state = 'succeeded' AND input ->> 'command' IS NULL
ORDER BY seq DESC
LIMIT 1;

-- name: CountRuns :many
SELECT state, count(*) FROM run GROUP BY state;

-- name: PruneRuns :execrows
DELETE FROM run
WHERE id IN (SELECT o.id FROM run o WHERE o.ended < @before LIMIT @max_rows);

-- name: TakeEffect :one
-- The step is taken by whoever comes first, and again once a holder's lease has run out without a result.
INSERT INTO effect (run_id, step, holder, until)
VALUES (@run_id, @step, @holder, clock_timestamp() + make_interval(secs => @lease_seconds::float8))
ON CONFLICT (run_id, step) DO UPDATE
SET holder = excluded.holder, until = excluded.until
WHERE effect.result IS NULL AND effect.until < clock_timestamp()
RETURNING holder;

-- name: Effect :one
SELECT result FROM effect WHERE run_id = @run_id AND step = @step;

-- name: ExtendEffect :execrows
UPDATE effect SET until = clock_timestamp() + make_interval(secs => @lease_seconds::float8)
WHERE run_id = @run_id AND step = @step AND holder = @holder AND result IS NULL;

-- name: RecordEffect :execrows
UPDATE effect SET result = @result
WHERE run_id = @run_id AND step = @step AND holder = @holder AND result IS NULL;

-- name: DropEffect :exec
DELETE FROM effect
WHERE run_id = @run_id AND step = @step AND holder = @holder AND result IS NULL;

-- name: AppendLog :exec
INSERT INTO run_log (run_id, n, at, stream, line)
SELECT @run_id::uuid, l.n, l.at, l.stream, l.line
FROM (
    SELECT unnest(@ns::integer[]) AS n, unnest(@ats::timestamptz[]) AS at, unnest(@streams::text[]) AS stream,
        unnest(@lines::text[]) AS line
) l
ON CONFLICT (run_id, n) DO NOTHING;

-- name: LastLine :one
SELECT coalesce(max(n), 0)::integer FROM run_log WHERE run_id = @run_id;

-- name: ReadLog :many
SELECT n, at, stream, line FROM run_log
WHERE run_id = @run_id AND n > @after
ORDER BY n
LIMIT @max_rows;

-- name: LockRun :one
SELECT id FROM run WHERE id = @id FOR UPDATE;

-- name: PutArtefact :execrows
-- Nothing is added to a run that holds too much; replacing counts what it replaces too.
INSERT INTO artefact (run_id, name, media, size, sha256, content)
SELECT @run_id::uuid, @name::text, @media::text, octet_length(@content::bytea), @sha256::bytea, @content
WHERE (SELECT coalesce(sum(a.size), 0) FROM artefact a WHERE a.run_id = @run_id::uuid AND a.name <> @name)
    + octet_length(@content) <= @max_bytes::bigint
ON CONFLICT (run_id, name) DO UPDATE
SET media = excluded.media, size = excluded.size, sha256 = excluded.sha256, content = excluded.content, created = now();

-- name: Artefact :one
SELECT name, media, size, sha256, content, created FROM artefact WHERE run_id = @run_id AND name = @name;

-- name: ListArtefacts :many
SELECT name, media, size, sha256, created FROM artefact WHERE run_id = @run_id ORDER BY name LIMIT @max_rows;

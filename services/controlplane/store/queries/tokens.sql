-- name: CreateToken :one
INSERT INTO token (name, hash, scopes, expires)
VALUES (@name, @hash, @scopes, sqlc.narg(expires))
RETURNING id, name, scopes, created, expires, revoked, used;

-- name: TokenByHash :many
SELECT id, name, hash, scopes, created, expires, revoked, used
FROM token
WHERE hash = @hash;

-- name: TouchToken :exec
-- Once a minute at most: a busy token is read far more often than it is written.
UPDATE token SET used = now()
WHERE id = @id AND (used IS NULL OR used < now() - interval '1 minute');

-- name: RevokeToken :execrows
UPDATE token SET revoked = now() WHERE name = @name AND revoked IS NULL;

-- name: ListTokens :many
SELECT id, name, scopes, created, expires, revoked, used
FROM token
WHERE @before::bigint = 0 OR id < @before
ORDER BY id DESC
LIMIT @max_rows;

-- name: AppendAudit :exec
INSERT INTO audit (actor, action, target, outcome, request)
VALUES (@actor, @action, @target, @outcome, @request);

-- name: ListAudit :many
SELECT id, at, actor, action, target, outcome, request
FROM audit
WHERE (@before::bigint = 0 OR id < @before) AND (@actor::text = '' OR actor = @actor)
ORDER BY id DESC
LIMIT @max_rows;

-- name: PruneAudit :execrows
DELETE FROM audit WHERE at < @before;

-- name: PutSource :one
INSERT INTO source (provider, name, integration, task, cipher, key_id, disabled)
VALUES (@provider, @name, nullif(@integration::text, ''), nullif(@task::text, ''),
    pgp_sym_encrypt_bytea(@value::bytea, @key::text, 'cipher-algo=aes256, s2k-mode=1'), @key_id, @disabled)
ON CONFLICT (provider, name) DO UPDATE
SET integration = excluded.integration, task = excluded.task, cipher = excluded.cipher, key_id = excluded.key_id,
    disabled = excluded.disabled
RETURNING id, created;

-- name: ChangeSource :one
-- All but its secret.
UPDATE source
SET integration = nullif(@integration::text, ''), task = nullif(@task::text, ''), disabled = @disabled
WHERE provider = @provider AND name = @name
RETURNING id, created;

-- name: Source :one
SELECT s.id, s.provider, s.name, s.integration, s.task, s.key_id, s.disabled, s.created,
    pgp_sym_decrypt_bytea(s.cipher, k.key) AS value
FROM source s
LEFT JOIN (SELECT unnest(@key_ids::text[]) AS id, unnest(@keys::text[]) AS key) k ON k.id = s.key_id
WHERE s.provider = @provider AND s.name = @name;

-- name: SourceByID :one
SELECT id, provider, name, integration, task, disabled, created FROM source WHERE id = @id;

-- name: ListSources :many
SELECT id, provider, name, integration, task, disabled, created
FROM source
WHERE (provider, name) > (@after_provider::text, @after_name::text)
ORDER BY provider, name
LIMIT @max_rows;

-- name: DeleteSource :execrows
DELETE FROM source WHERE provider = @provider AND name = @name;

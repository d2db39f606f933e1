-- name: PutSource :one
INSERT INTO source (provider, name, integration, cipher, key_id, disabled)
VALUES (@provider, @name, nullif(@integration::text, ''),
    pgp_sym_encrypt_bytea(@value::bytea, @key::text, 'cipher-algo=aes256, s2k-mode=1'), @key_id, @disabled)
ON CONFLICT (provider, name) DO UPDATE
SET integration = excluded.integration, cipher = excluded.cipher, key_id = excluded.key_id, disabled = excluded.disabled
RETURNING id, created;

-- name: Source :one
SELECT s.id, s.provider, s.name, s.integration, s.key_id, s.disabled, s.created,
    pgp_sym_decrypt_bytea(s.cipher, k.key) AS value
FROM source s
LEFT JOIN (SELECT unnest(@key_ids::text[]) AS id, unnest(@keys::text[]) AS key) k ON k.id = s.key_id
WHERE s.provider = @provider AND s.name = @name;

-- name: SourceByID :one
SELECT id, provider, name, integration, disabled, created FROM source WHERE id = @id;

-- name: ListSources :many
SELECT id, provider, name, integration, disabled, created
FROM source
ORDER BY provider, name
LIMIT @max_rows;

-- name: DeleteSource :execrows
DELETE FROM source WHERE provider = @provider AND name = @name;

-- name: PutIntegration :one
INSERT INTO integration (provider, name, settings)
VALUES (@provider, @name, @settings)
ON CONFLICT (provider, name) DO UPDATE
SET settings = excluded.settings, version = integration.version + 1, updated = now(), tested = NULL
RETURNING id, version, created, updated;

-- name: ClearCredentials :exec
DELETE FROM credential WHERE integration_id = @integration_id;

-- name: PutCredentials :exec
-- References and values come in arrays of the same length; the one that a field does not have is empty.
INSERT INTO credential (integration_id, field, cipher, key_id, reference)
SELECT @integration_id::bigint, c.field,
    CASE WHEN c.reference = '' THEN pgp_sym_encrypt_bytea(c.value, @key::text, 'cipher-algo=aes256, s2k-mode=1') END,
    CASE WHEN c.reference = '' THEN @key_id::text ELSE '' END,
    c.reference
FROM (
    SELECT unnest(@fields::text[]) AS field, unnest(@vals::bytea[]) AS value, unnest(@refs::text[]) AS reference
) c;

-- name: ListIntegrations :many
SELECT i.provider, i.name, i.settings, i.version, i.created, i.updated, i.tested,
    coalesce((SELECT array_agg(c.field ORDER BY c.field) FROM credential c WHERE c.integration_id = i.id), '{}')::text[] AS fields,
    coalesce((SELECT max(c.key_id) FROM credential c WHERE c.integration_id = i.id), '')::text AS key_id
FROM integration i
WHERE (@provider::text = '' OR i.provider = @provider) AND (@name::text = '' OR i.name = @name)
    AND (i.provider, i.name) > (@after_provider::text, @after_name::text)
ORDER BY i.provider, i.name
LIMIT @max_rows;

-- name: DeleteIntegration :execrows
DELETE FROM integration WHERE provider = @provider AND name = @name;

-- name: IntegrationTested :execrows
UPDATE integration SET tested = now() WHERE provider = @provider AND name = @name;

-- name: Credentials :many
SELECT c.field, c.reference, c.key_id, pgp_sym_decrypt_bytea(c.cipher, k.key) AS value
FROM integration i
JOIN credential c ON c.integration_id = i.id
LEFT JOIN (SELECT unnest(@key_ids::text[]) AS id, unnest(@keys::text[]) AS key) k ON k.id = c.key_id
WHERE i.provider = @provider AND i.name = @name;

-- name: KeysInUse :many
SELECT DISTINCT key_id FROM credential WHERE cipher IS NOT NULL
UNION
SELECT DISTINCT key_id FROM source;

-- name: ReencryptCredentials :execrows
UPDATE credential c
SET cipher = pgp_sym_encrypt_bytea(pgp_sym_decrypt_bytea(c.cipher, k.key), @key::text, 'cipher-algo=aes256, s2k-mode=1'),
    key_id = @key_id::text
FROM (
    SELECT o.integration_id, o.field FROM credential o
    WHERE o.cipher IS NOT NULL AND o.key_id <> @key_id::text
    ORDER BY o.integration_id, o.field
    LIMIT @max_rows
    FOR UPDATE
) old, (SELECT unnest(@key_ids::text[]) AS id, unnest(@keys::text[]) AS key) k
WHERE c.integration_id = old.integration_id AND c.field = old.field AND k.id = c.key_id;

-- name: ReencryptSources :execrows
UPDATE source s
SET cipher = pgp_sym_encrypt_bytea(pgp_sym_decrypt_bytea(s.cipher, k.key), @key::text, 'cipher-algo=aes256, s2k-mode=1'),
    key_id = @key_id::text
FROM (
    SELECT o.id FROM source o
    WHERE o.key_id <> @key_id::text
    ORDER BY o.id
    LIMIT @max_rows
    FOR UPDATE
) old, (SELECT unnest(@key_ids::text[]) AS id, unnest(@keys::text[]) AS key) k
WHERE s.id = old.id AND k.id = s.key_id;

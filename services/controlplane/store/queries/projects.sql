-- name: PutProject :one
INSERT INTO project (name, provider, integration, repository, branch, folder, cluster, deploy,
    previews, preview_label, preview_lifetime, preview_limit)
VALUES (@name, @provider, @integration, @repository, @branch, @folder, @cluster, @deploy,
    @previews, @preview_label, @preview_lifetime, @preview_limit)
ON CONFLICT (name) DO UPDATE
SET provider = excluded.provider, integration = excluded.integration, repository = excluded.repository,
    branch = excluded.branch, folder = excluded.folder, cluster = excluded.cluster, deploy = excluded.deploy,
    previews = excluded.previews, preview_label = excluded.preview_label,
    preview_lifetime = excluded.preview_lifetime, preview_limit = excluded.preview_limit
RETURNING *;

-- name: Project :one
SELECT * FROM project WHERE name = @name;

-- name: ListProjects :many
SELECT * FROM project WHERE name > @after ORDER BY name LIMIT @max_rows;

-- name: ProjectsOf :many
SELECT * FROM project
WHERE provider = @provider AND lower(repository) = lower(@repository::text)
ORDER BY name
LIMIT @max_rows;

-- name: DeleteProject :execrows
DELETE FROM project WHERE name = @name;

-- Migrations only go forward, and only add: during an update the older server runs on the newer tables.
--
-- Strings are bounded here too, so that a caller who forgot cannot fill the disk. Empty text stands for "none"; times
-- that have not come are NULL. Secrets are stored as OpenPGP messages (RFC 4880) under the key that key_id names, or
-- as references, never both.

-- +goose Up

CREATE EXTENSION IF NOT EXISTS pgcrypto;

CREATE TABLE token (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name    text        NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 63),
    hash    bytea       NOT NULL UNIQUE CHECK (octet_length(hash) = 32), -- SHA-256
    scopes  text[]      NOT NULL CHECK (cardinality(scopes) BETWEEN 1 AND 20),
    created timestamptz NOT NULL DEFAULT now(),
    expires timestamptz,
    revoked timestamptz,
    used    timestamptz
);
-- A name can be given again once its token is revoked.
CREATE UNIQUE INDEX token_name ON token (name) WHERE revoked IS NULL;

CREATE TABLE audit (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now(),
    actor   text        NOT NULL CHECK (octet_length(actor) BETWEEN 1 AND 300),
    action  text        NOT NULL CHECK (octet_length(action) BETWEEN 1 AND 100),
    target  text        NOT NULL CHECK (octet_length(target) <= 1000),
    outcome text        NOT NULL CHECK (octet_length(outcome) <= 100),
    request text        NOT NULL CHECK (octet_length(request) <= 200)
);
CREATE INDEX audit_actor ON audit (actor, id);

CREATE TABLE integration (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text        NOT NULL CHECK (octet_length(provider) BETWEEN 1 AND 32),
    name     text        NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 63),
    settings jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(settings) = 'object'),
    version  integer     NOT NULL DEFAULT 1,
    created  timestamptz NOT NULL DEFAULT now(),
    updated  timestamptz NOT NULL DEFAULT now(),
    tested   timestamptz,
    UNIQUE (provider, name)
);

CREATE TABLE credential (
    integration_id bigint NOT NULL REFERENCES integration ON DELETE CASCADE,
    field          text   NOT NULL CHECK (octet_length(field) BETWEEN 1 AND 63),
    cipher         bytea,
    key_id         text   NOT NULL DEFAULT '' CHECK (octet_length(key_id) <= 63),
    reference      text   NOT NULL DEFAULT '' CHECK (octet_length(reference) <= 1000),
    PRIMARY KEY (integration_id, field),
    CHECK ((cipher IS NULL) = (key_id = '') AND (cipher IS NULL) = (reference <> ''))
);
CREATE INDEX credential_key ON credential (key_id) WHERE cipher IS NOT NULL;

CREATE TABLE source (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider    text        NOT NULL CHECK (octet_length(provider) BETWEEN 1 AND 32),
    name        text        NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 63),
    integration text,
    cipher      bytea       NOT NULL, -- a source without a secret would let everybody in
    key_id      text        NOT NULL CHECK (octet_length(key_id) BETWEEN 1 AND 63),
    disabled    boolean     NOT NULL DEFAULT false,
    created     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (provider, name),
    -- An integration that still answers for a source cannot be deleted.
    FOREIGN KEY (provider, integration) REFERENCES integration (provider, name)
);
CREATE INDEX source_key ON source (key_id);
CREATE INDEX source_integration ON source (provider, integration);

CREATE TABLE project (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             text        NOT NULL UNIQUE CHECK (octet_length(name) BETWEEN 1 AND 63),
    provider         text        NOT NULL,
    integration      text        NOT NULL,
    repository       text        NOT NULL CHECK (octet_length(repository) BETWEEN 3 AND 400),
    branch           text        NOT NULL DEFAULT '' CHECK (octet_length(branch) <= 250),
    folder           text        NOT NULL DEFAULT '' CHECK (octet_length(folder) <= 1000),
    cluster          text        NOT NULL CHECK (octet_length(cluster) BETWEEN 1 AND 63),
    deploy           text        NOT NULL CHECK (deploy IN ('never', 'manual', 'always')),
    previews         boolean     NOT NULL DEFAULT false,
    preview_label    text        NOT NULL DEFAULT '' CHECK (octet_length(preview_label) <= 200),
    preview_lifetime bigint      NOT NULL DEFAULT 0 CHECK (preview_lifetime >= 0), -- nanoseconds
    preview_limit    integer     NOT NULL DEFAULT 0 CHECK (preview_limit >= 0),
    created          timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (provider, integration) REFERENCES integration (provider, name)
);
-- The providers do not tell apart repositories by case.
CREATE INDEX project_repository ON project (provider, lower(repository));
CREATE INDEX project_integration ON project (provider, integration);

CREATE TABLE delivery (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id   bigint      NOT NULL REFERENCES source ON DELETE CASCADE,
    delivery_id text        NOT NULL CHECK (octet_length(delivery_id) BETWEEN 1 AND 200),
    event       text        NOT NULL CHECK (octet_length(event) <= 200),
    headers     jsonb       NOT NULL DEFAULT '{}',
    body        bytea       NOT NULL,
    received    timestamptz NOT NULL DEFAULT now(),
    state       text        NOT NULL DEFAULT 'stored' CHECK (state IN ('stored', 'dispatched', 'ignored', 'failed')),
    attempts    integer     NOT NULL DEFAULT 0,
    error       text        NOT NULL DEFAULT '' CHECK (octet_length(error) <= 4000),
    run_id      text        NOT NULL DEFAULT '' CHECK (octet_length(run_id) <= 100),
    dispatched  timestamptz,
    -- When a dispatcher may take it: a retry's time, or the end of the lease of the dispatcher that has it.
    next_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source_id, delivery_id)
);
-- What is left to do, in order. It stays small, however many deliveries are kept.
CREATE INDEX delivery_stored ON delivery (source_id, id) WHERE state = 'stored';
CREATE INDEX delivery_received ON delivery USING brin (received);

CREATE TABLE run (
    seq      bigint GENERATED ALWAYS AS IDENTITY NOT NULL UNIQUE, -- in order of creation
    id       uuid        PRIMARY KEY,
    key      text        NOT NULL UNIQUE CHECK (octet_length(key) BETWEEN 1 AND 400),
    kind     text        NOT NULL CHECK (octet_length(kind) BETWEEN 1 AND 32),
    project  text        NOT NULL DEFAULT '' CHECK (octet_length(project) <= 63),
    task     text        NOT NULL DEFAULT '' CHECK (octet_length(task) <= 63),
    queue    text        NOT NULL DEFAULT '' CHECK (octet_length(queue) <= 400),
    priority text        NOT NULL DEFAULT 'normal' CHECK (priority IN ('critical', 'normal', 'batch')),
    state    text        NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'superseded')),
    input    jsonb       NOT NULL DEFAULT 'null',
    output   jsonb       NOT NULL DEFAULT 'null',
    error    text        NOT NULL DEFAULT '' CHECK (octet_length(error) <= 4000),
    created  timestamptz NOT NULL DEFAULT now(),
    started  timestamptz,
    ended    timestamptz
);
CREATE INDEX run_project ON run (project, seq);
CREATE INDEX run_task ON run (task, seq);
CREATE INDEX run_open ON run (queue, seq) WHERE state IN ('queued', 'running');
-- One at a time: whatever the engine believes.
CREATE UNIQUE INDEX run_queue ON run (queue) WHERE state = 'running' AND queue <> '';

CREATE TABLE effect (
    run_id  uuid        NOT NULL REFERENCES run ON DELETE CASCADE,
    step    text        NOT NULL CHECK (octet_length(step) BETWEEN 1 AND 200),
    result  jsonb, -- NULL while it is being done
    holder  uuid        NOT NULL,
    until   timestamptz NOT NULL, -- the end of the holder's lease
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, step)
);

CREATE TABLE run_log (
    run_id uuid        NOT NULL REFERENCES run ON DELETE CASCADE,
    n      integer     NOT NULL CHECK (n > 0),
    at     timestamptz NOT NULL,
    stream text        NOT NULL CHECK (octet_length(stream) <= 16),
    line   text        NOT NULL CHECK (octet_length(line) <= 65536),
    PRIMARY KEY (run_id, n)
);

CREATE TABLE artefact (
    run_id  uuid        NOT NULL REFERENCES run ON DELETE CASCADE,
    name    text        NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
    media   text        NOT NULL CHECK (octet_length(media) <= 200),
    size    bigint      NOT NULL,
    sha256  bytea       NOT NULL CHECK (octet_length(sha256) = 32),
    content bytea       NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, name),
    CHECK (size = octet_length(content))
);

CREATE TABLE event (
    seq   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- in order of writing
    id    bigint      UNIQUE,                              -- in order of showing; NULL: nobody has seen it
    topic text        NOT NULL CHECK (octet_length(topic) BETWEEN 1 AND 200),
    type  text        NOT NULL CHECK (octet_length(type) BETWEEN 1 AND 100),
    at    timestamptz NOT NULL DEFAULT now(),
    data  jsonb       NOT NULL DEFAULT 'null'
);
CREATE INDEX event_topic ON event (topic, id);
CREATE INDEX event_hidden ON event (seq) WHERE id IS NULL;
CREATE INDEX event_at ON event USING brin (at);
CREATE SEQUENCE event_id;

-- Numbers that writers take are no feed: a reader could see 5, remember it, and never see a 4 that is committed later.
-- Writers that queue up for a number would do, and would wait for each other's disk writes. So committed events get
-- their place afterwards, many at a time, by one caller at a time; it returns the last place that it gave.
-- +goose StatementBegin
CREATE FUNCTION show_events() RETURNS bigint LANGUAGE plpgsql SET search_path = skep, pg_temp AS $$
DECLARE
    last bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM event WHERE id IS NULL) THEN
        RETURN 0;
    END IF;
    PERFORM pg_advisory_xact_lock(3852012);
    WITH place AS (
        SELECT o.seq, nextval('event_id') AS id
        FROM (SELECT h.seq FROM event h WHERE h.id IS NULL ORDER BY h.seq LIMIT 10000) o
    ), shown AS (
        UPDATE event e SET id = place.id FROM place WHERE e.seq = place.seq RETURNING e.id
    )
    SELECT max(shown.id) INTO last FROM shown;
    RETURN coalesce(last, 0);
END $$;
-- +goose StatementEnd

-- A change of state and its event are one transaction: whoever is killed between the two leaves neither.
-- +goose StatementBegin
CREATE FUNCTION run_event() RETURNS trigger LANGUAGE plpgsql SET search_path = skep, pg_temp AS $$
DECLARE
    type text := CASE NEW.state WHEN 'queued' THEN 'run.queued' WHEN 'running' THEN 'run.started' ELSE 'run.ended' END;
    data jsonb := jsonb_build_object('run', NEW.id, 'kind', NEW.kind, 'state', NEW.state, 'project', NEW.project,
        'task', NEW.task, 'queue', NEW.queue);
BEGIN
    INSERT INTO event (topic, type, data)
    SELECT topic, type, data
    FROM unnest(ARRAY['run/' || NEW.id, 'project/' || NEW.project, 'task/' || NEW.task]) topic
    WHERE topic NOT IN ('project/', 'task/');
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER run_event_added AFTER INSERT ON run FOR EACH ROW EXECUTE FUNCTION run_event();
CREATE TRIGGER run_event_changed AFTER UPDATE OF state ON run FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION run_event();

CREATE TABLE preview (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text        NOT NULL REFERENCES project (name),
    number  integer     NOT NULL CHECK (number > 0),
    commit  text        NOT NULL CHECK (octet_length(commit) <= 64),
    stacks  text[]      NOT NULL DEFAULT '{}' CHECK (cardinality(stacks) <= 200),
    hosts   text[]      NOT NULL DEFAULT '{}' CHECK (cardinality(hosts) <= 1000),
    created timestamptz NOT NULL DEFAULT now(),
    updated timestamptz NOT NULL DEFAULT now(),
    expires timestamptz NOT NULL,
    UNIQUE (project, number)
);
CREATE INDEX preview_expires ON preview (expires);

CREATE TABLE task (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name     text        NOT NULL UNIQUE CHECK (octet_length(name) BETWEEN 1 AND 63),
    priority text        NOT NULL CHECK (priority IN ('critical', 'normal', 'batch')),
    spec     jsonb       NOT NULL CHECK (jsonb_typeof(spec) = 'object'),
    created  timestamptz NOT NULL DEFAULT now(),
    updated  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE schedule (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name    text        NOT NULL UNIQUE CHECK (octet_length(name) BETWEEN 1 AND 63),
    task    text        NOT NULL REFERENCES task (name),
    cron    text        NOT NULL DEFAULT '' CHECK (octet_length(cron) <= 200), -- empty: once, at next
    zone    text        NOT NULL DEFAULT 'UTC' CHECK (octet_length(zone) <= 100),
    overlap text        NOT NULL CHECK (overlap IN ('skip', 'queue', 'replace')),
    paused  boolean     NOT NULL DEFAULT false,
    next    timestamptz, -- NULL: never again
    last    timestamptz,
    created timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX schedule_task ON schedule (task);
CREATE INDEX schedule_due ON schedule (next) WHERE NOT paused;

-- +goose Up

-- +goose StatementBegin
CREATE FUNCTION last_delivery() RETURNS bigint LANGUAGE sql SET search_path = skep, pg_temp AS $$
    SELECT coalesce(pg_sequence_last_value('delivery_id_seq'::regclass), 0)
$$;
-- +goose StatementEnd

-- Runs of a queue go in the order of the deliveries that asked for them, not in that of their arrival here: a command
-- is looked at for a while before its run is started. A run that no delivery asked for comes after all that there are.
-- Runs of the time before come first. By number, as clocks are set back now and then.
ALTER TABLE run ADD COLUMN delivery bigint NOT NULL DEFAULT 0;
ALTER TABLE run ALTER COLUMN delivery SET DEFAULT last_delivery();
-- The newest of its queue and project wins: those before it that it stands for need not run.
ALTER TABLE run ADD COLUMN supersedes boolean NOT NULL DEFAULT false;
-- +goose StatementBegin
CREATE FUNCTION stands_for(newer text, older text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT older = newer OR older IN ('check', 'plan') OR newer IN ('preview', 'destroy') AND older IN ('preview', 'destroy')
$$;
-- +goose StatementEnd
CREATE INDEX run_supersedes ON run (queue, delivery) WHERE supersedes;

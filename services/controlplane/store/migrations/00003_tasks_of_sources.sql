-- +goose Up

-- What a delivery of the source starts; a task that a source names cannot be deleted.
ALTER TABLE source ADD COLUMN task text REFERENCES task (name);
CREATE INDEX source_task ON source (task) WHERE task IS NOT NULL;

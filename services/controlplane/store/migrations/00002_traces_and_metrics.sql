-- +goose Up

-- The W3C traceparent of the request that brought a delivery: what is done about it later belongs to the same trace.
ALTER TABLE delivery ADD COLUMN trace text NOT NULL DEFAULT '' CHECK (octet_length(trace) <= 100);

-- The metrics count runs by state.
CREATE INDEX run_state ON run (state);

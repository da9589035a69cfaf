-- The chunk store: a file of its own, so that a log storm cannot delay state.
CREATE TABLE schema_version (
    version BIGINT PRIMARY KEY,
    name TEXT NOT NULL
);

CREATE TABLE log (
    execution_id TEXT PRIMARY KEY,
    attempt_id TEXT NOT NULL,
    checkout_id TEXT NOT NULL,
    -- Chunks before `next_chunk` and entries before `next_entry` are here; `digest` is after them.
    next_chunk BIGINT NOT NULL,
    next_entry BIGINT NOT NULL,
    digest BLOB NOT NULL,
    -- Bytes of all payloads, and of all blobs.
    raw_bytes BIGINT NOT NULL,
    blob_bytes BIGINT NOT NULL,
    closed INTEGER NOT NULL,
    -- The hive holds the chunks before this one.
    acked_chunk BIGINT NOT NULL,
    -- Whether every verified backup of the hive has all of it.
    safe INTEGER NOT NULL DEFAULT 0,
    spool_end BLOB,
    created_at_ms BIGINT NOT NULL,
    closed_at_ms BIGINT,
    -- Set before the first chunk is deleted: a purge that broke off is finished later.
    purged_at_ms BIGINT
);
CREATE INDEX log_unfinished ON log (execution_id) WHERE closed = 0 OR acked_chunk < next_chunk;
CREATE INDEX log_by_attempt ON log (attempt_id);
CREATE INDEX log_by_age ON log (closed_at_ms);

-- A gap has a reason and no blob.
CREATE TABLE chunk (
    execution_id TEXT NOT NULL,
    chunk_seq BIGINT NOT NULL,
    through_seq BIGINT NOT NULL,
    first_entry BIGINT NOT NULL,
    entries BIGINT NOT NULL,
    first_ms BIGINT NOT NULL,
    last_ms BIGINT NOT NULL,
    raw_bytes BIGINT NOT NULL,
    crc32 BIGINT NOT NULL,
    style BLOB NOT NULL,
    blob BLOB,
    reason TEXT,
    gap_bytes BIGINT NOT NULL,
    -- Bytes of the log's blobs before this one: what is unsent is then one subtraction.
    blob_bytes_before BIGINT NOT NULL,
    -- Running digest of the log after this chunk.
    digest BLOB NOT NULL
);
CREATE UNIQUE INDEX chunk_by_seq ON chunk (execution_id, chunk_seq);
CREATE INDEX chunk_by_entry ON chunk (execution_id, first_entry, entries, chunk_seq);

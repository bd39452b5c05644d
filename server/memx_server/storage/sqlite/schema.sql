-- Times: `ts` in microseconds, `expires_at` in milliseconds, both since the Unix epoch.
-- Texts compare as UTF-8 bytes, which is code-point order.

CREATE TABLE spaces (
    id              INTEGER PRIMARY KEY,
    name            TEXT    NOT NULL UNIQUE,
    lineage         TEXT    NOT NULL DEFAULT '',
    head            INTEGER NOT NULL DEFAULT 0,  -- the newest revision of the log
    floor           INTEGER NOT NULL DEFAULT 0,  -- the newest revision that was trimmed from the log
    log_records     INTEGER NOT NULL DEFAULT 0,
    log_bytes       INTEGER NOT NULL DEFAULT 0,
    schema_revision INTEGER NOT NULL DEFAULT 0,
    result_bytes    INTEGER NOT NULL DEFAULT 0,  -- sum of idempotency.size
    schema_bytes    INTEGER NOT NULL DEFAULT 0,  -- what the schemas are charged with
    last            INTEGER NOT NULL DEFAULT 0   -- the newest revision of unlogged keys
);

-- Lineages that have ended, and the last revision of theirs that is part of the history.
CREATE TABLE lineages (
    space INTEGER NOT NULL REFERENCES spaces (id),
    id    TEXT    NOT NULL,
    cut   INTEGER NOT NULL,
    PRIMARY KEY (space, id)
) WITHOUT ROWID;

CREATE TABLE entries (
    space      INTEGER NOT NULL REFERENCES spaces (id),
    key        TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    ts         INTEGER NOT NULL,
    expires_at INTEGER,
    writer     TEXT    NOT NULL,
    value      BLOB    NOT NULL,
    logged     INTEGER NOT NULL DEFAULT 1,
    UNIQUE (space, key)
);

CREATE INDEX entries_by_expiry ON entries (expires_at) WHERE expires_at IS NOT NULL;

-- The log: one row for each change; rows of one revision are one transaction.
CREATE TABLE changes (
    space    INTEGER NOT NULL REFERENCES spaces (id),
    revision INTEGER NOT NULL,
    part     INTEGER NOT NULL,
    previous INTEGER NOT NULL,  -- the revision before
    first    INTEGER NOT NULL,  -- 1 where surely no change of the key came before
    key      TEXT    NOT NULL,
    action   TEXT    NOT NULL,
    data     BLOB    NOT NULL,
    UNIQUE (space, revision, part)
);

CREATE INDEX changes_by_key ON changes (space, key, revision) WHERE action <> 'schema';

CREATE TABLE schemas (
    space   INTEGER NOT NULL REFERENCES spaces (id),
    pattern TEXT    NOT NULL,
    schema  BLOB    NOT NULL,
    UNIQUE (space, pattern)
);

CREATE TABLE idempotency (
    space      INTEGER NOT NULL REFERENCES spaces (id),
    token      TEXT    NOT NULL,
    digest     TEXT    NOT NULL,
    expires_at INTEGER NOT NULL,
    answer     BLOB    NOT NULL,
    size       INTEGER NOT NULL DEFAULT 0,  -- what the space is charged with for it
    PRIMARY KEY (space, token)
) WITHOUT ROWID;

CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);

CREATE TABLE state (
    "group"    TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    value      BLOB    NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY ("group", name)
) WITHOUT ROWID;

CREATE INDEX state_by_expiry ON state (expires_at);

-- The tries of passwords of late, per login name and network or per account, as SHA-256 sums. A row has the time at which
-- the tries of its key are all refilled; the sweeper removes it then.
CREATE TABLE attempts (
    key_hash BYTEA PRIMARY KEY,
    full_time BIGINT NOT NULL
);

CREATE INDEX attempts_full ON attempts (full_time);

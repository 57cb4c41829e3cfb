-- The history of facts of this database: a random name, drawn once. A copy of the database has the same name.
CREATE TABLE outbox_history (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    epoch TEXT NOT NULL
);

-- The history that a consumer has read, and the fact at its position. `mark_position` says at which position `mark` was
-- read: an older replica of the service moves the position alone, and the mark does not count then.
ALTER TABLE feed_cursors ADD COLUMN epoch TEXT NOT NULL DEFAULT '';
ALTER TABLE feed_cursors ADD COLUMN mark TEXT NOT NULL DEFAULT '';
ALTER TABLE feed_cursors ADD COLUMN mark_position BIGINT NOT NULL DEFAULT 0;
-- The time of the latest fact that was read, and the time up to which facts are read once more after a history was
-- replaced: milliseconds since 1970, 0 when there is none.
ALTER TABLE feed_cursors ADD COLUMN read_time BIGINT NOT NULL DEFAULT 0;
ALTER TABLE feed_cursors ADD COLUMN repeat_time BIGINT NOT NULL DEFAULT 0;

-- The facts of others that could not be read or applied. Each is tried again at every start, and goes when it is applied.
CREATE TABLE facts_aside (
    feed TEXT NOT NULL,
    position BIGINT NOT NULL,
    -- The id of the fact; empty when it has none.
    mark TEXT NOT NULL,
    payload BYTEA NOT NULL,
    error TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    attempt_time BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    PRIMARY KEY (feed, position, mark)
);

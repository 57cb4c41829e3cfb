-- Each user has a log of the same kind for what concerns nobody else: conversations gained and lost, what was read on
-- another device.

CREATE TABLE user_heads (
    user_id UUID PRIMARY KEY,
    last_sequence BIGINT NOT NULL
);

CREATE TABLE user_events (
    user_id UUID NOT NULL,
    sequence BIGINT NOT NULL,
    occur_time BIGINT NOT NULL,
    -- An encoded parlor.messaging.v1.UserEvent with nothing but its payload.
    payload BYTEA NOT NULL,
    PRIMARY KEY (user_id, sequence)
);

-- What is true of the whole database. `epoch` is drawn at the first start and has to be changed by whoever restores a
-- backup: the sequences that clients know then mean nothing any more, and they are told so.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

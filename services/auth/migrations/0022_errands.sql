-- What is to be done outside: a mail to send, a background check to hand in. Written with the change that wants it, and
-- repeated until it is done or makes no sense any more. What it says is encrypted: it holds codes, addresses and names.
CREATE TABLE errands (
    errand_id UUID PRIMARY KEY,
    -- 1 mail, 2 background check.
    kind BIGINT NOT NULL,
    -- Whose it is; NULL for a mail that nobody gets, which is written so that its absence tells nothing.
    user_id UUID,
    sealed BYTEA NOT NULL,
    -- When it may be tried; whoever tries it moves this on first.
    due_time BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    expire_time BIGINT NOT NULL
);

-- What is due first. Each kind has workers of its own.
CREATE INDEX errands_due ON errands (kind, due_time);
-- The errands of a user who goes.
CREATE INDEX errands_user ON errands (user_id);

-- Background checks, and how far each is. What the provider is told stands in the errand that hands it in, encrypted,
-- and goes with that.
CREATE TABLE background_checks (
    check_id UUID PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES users (user_id),
    -- The request that made it, and a keyed sum of its words: the same request again makes no second check.
    request_id UUID NOT NULL,
    request_hash BYTEA NOT NULL,
    -- 1 pending, 2 submitted, 3 clear, 4 consider, 5 failed, 6 expired.
    state BIGINT NOT NULL,
    reference TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL
);

CREATE UNIQUE INDEX background_checks_request ON background_checks (user_id, request_id);
-- One is under way at a time.
CREATE UNIQUE INDEX background_checks_open ON background_checks (user_id) WHERE state IN (1, 2);
-- The sweeper ends those of which nothing came.
CREATE INDEX background_checks_waiting ON background_checks (create_time) WHERE state IN (1, 2);

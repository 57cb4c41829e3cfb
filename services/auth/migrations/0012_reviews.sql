-- Who knows whom, as conversation and scheduling tell it: it decides who may review whom, and who sees a profile that is
-- for connections only. One row for two people and one way of knowing each other.
CREATE TABLE acquaintances (
    low_user_id UUID NOT NULL REFERENCES users (user_id),
    high_user_id UUID NOT NULL REFERENCES users (user_id),
    -- 1 they are connected, 2 they had a call, 3 one of them blocks the other: then neither reviews.
    kind BIGINT NOT NULL,
    -- What was told under a smaller version changes nothing any more.
    version BIGINT NOT NULL,
    ended BOOLEAN NOT NULL,
    PRIMARY KEY (low_user_id, high_user_id, kind)
);

-- The other half of a user's acquaintances, for when the user is deleted.
CREATE INDEX acquaintances_high ON acquaintances (high_user_id, low_user_id);

-- What people thought of each other: at most one review in each direction.
CREATE TABLE reviews (
    reviewer_id UUID NOT NULL REFERENCES users (user_id),
    user_id UUID NOT NULL REFERENCES users (user_id),
    review_id UUID NOT NULL,
    stars BIGINT NOT NULL,
    text TEXT NOT NULL,
    -- Goes up by one with every change, so that others know which of two they hear of is the later one.
    version BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    PRIMARY KEY (reviewer_id, user_id)
);

-- The two lists there are: of those about a user and of those by one, the one that changed last first.
CREATE INDEX reviews_user ON reviews (user_id, update_time, review_id);
CREATE INDEX reviews_reviewer ON reviews (reviewer_id, update_time, review_id);

-- What the reviews of a user come to. It changes in the transaction of the review, under the lock of this row, so it
-- always equals the rows and nobody has to count them.
CREATE TABLE ratings (
    user_id UUID PRIMARY KEY REFERENCES users (user_id),
    review_count BIGINT NOT NULL,
    star_sum BIGINT NOT NULL
);

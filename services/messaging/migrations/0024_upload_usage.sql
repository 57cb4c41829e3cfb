-- How many bytes a user has begun to bring on a day (days since 1970, UTC): each attempt counts as many as its file has. Whoever
-- makes a place for a file holds the lock of this row, so that the bounds of one user hold for many requests at once.
CREATE TABLE upload_usage (
    user_id UUID PRIMARY KEY,
    day BIGINT NOT NULL,
    bytes BIGINT NOT NULL
);

-- ID tokens of providers that were used, so that none is used twice: SHA-256 sums of what a token says, of its id (`jti`)
-- and of the nonce that was asked for. Kept until the token has ended by itself.
CREATE TABLE used_id_tokens (
    mark_hash BYTEA PRIMARY KEY,
    expire_time BIGINT NOT NULL
);

-- The sweeper removes marks of tokens that have ended.
CREATE INDEX used_id_tokens_expire ON used_id_tokens (expire_time);

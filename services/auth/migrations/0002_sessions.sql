-- Who is signed in. A token is two random parts: the family, which names the session for its whole life, and the secret,
-- which changes at each refresh. Both are kept only as SHA-256 sums: who reads this table can sign in nowhere.
CREATE TABLE sessions (
    user_id UUID NOT NULL REFERENCES users (user_id),
    session_id UUID NOT NULL,
    family_hash BYTEA NOT NULL,
    -- The sum of the one secret that opens the session now.
    secret_hash BYTEA NOT NULL,
    device_name TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    -- To within a minute: not every request is worth a write.
    last_use_time BIGINT NOT NULL,
    -- When it ends unless it is used before; never later than its absolute end.
    expire_time BIGINT NOT NULL,
    -- All questions but one are asked by a user about their own sessions.
    PRIMARY KEY (user_id, session_id)
);

-- That one: whose is this token? It stands on the path of every request.
CREATE UNIQUE INDEX sessions_family ON sessions (family_hash);
-- The sweeper takes the sessions that have ended by themselves.
CREATE INDEX sessions_expire ON sessions (expire_time);

-- The secrets that a refresh has replaced within the last seconds. Two tabs may trade the same token at the same moment
-- and must both get the new one, which is why the salt is kept that makes the new secret out of the old one. The salt
-- alone makes nothing: it takes the old secret too, and that only the client has.
CREATE TABLE session_rotations (
    user_id UUID NOT NULL,
    session_id UUID NOT NULL,
    secret_hash BYTEA NOT NULL,
    successor_salt BYTEA NOT NULL,
    rotate_time BIGINT NOT NULL,
    PRIMARY KEY (user_id, session_id, secret_hash),
    FOREIGN KEY (user_id, session_id) REFERENCES sessions (user_id, session_id) ON DELETE CASCADE
);

-- The public keys by which the devices of users sign secure messages. A revoked key stays: what it signed before stays
-- signed, and it must not come back under the same user.
CREATE TABLE device_keys (
    user_id UUID NOT NULL REFERENCES users (user_id),
    device_key_id UUID NOT NULL,
    -- Ed25519, 32 bytes.
    public_key BYTEA NOT NULL,
    name TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    -- NULL for one that is in use.
    revoke_time BIGINT,
    -- All questions are about the keys of one user.
    PRIMARY KEY (user_id, device_key_id)
);

-- The same key of the same user is one key. Two users who show the same public key can only both sign if both hold the
-- private one, and then it is as good as theirs.
CREATE UNIQUE INDEX device_keys_public_key ON device_keys (user_id, public_key);

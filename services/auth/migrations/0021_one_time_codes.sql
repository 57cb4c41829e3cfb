-- The keys under which codes are hashed and what waits to be sent is encrypted, when the operator sets none. Drawn once,
-- by whichever process starts first.
CREATE TABLE service_keys (
    name TEXT PRIMARY KEY,
    secret BYTEA NOT NULL
);

-- The last code for each address and purpose. Whether or not somebody has the address a row is written, and it holds the
-- address only as a keyed sum: the table is no list of those who asked.
CREATE TABLE one_time_codes (
    address_hash BYTEA NOT NULL,
    purpose BIGINT NOT NULL,
    -- Who has the address; NULL when nobody has, and then no code is right.
    user_id UUID,
    -- HMAC-SHA256 of the code. Without the key, six digits would be guessed from a plain sum at once.
    code_hash BYTEA NOT NULL,
    -- By all networks together.
    tries BIGINT NOT NULL,
    used BOOLEAN NOT NULL,
    expire_time BIGINT NOT NULL,
    issue_time BIGINT NOT NULL,
    PRIMARY KEY (address_hash, purpose)
);

-- Who asked for codes within the last hour, by the keyed sum of a network: one that asks too often keeps itself from
-- getting more, and nobody else. Counted under the lock of the code's row, so that no two requests pass the same count.
CREATE TABLE code_requests (
    address_hash BYTEA NOT NULL,
    purpose BIGINT NOT NULL,
    request_id UUID NOT NULL,
    network_hash BYTEA NOT NULL,
    request_time BIGINT NOT NULL,
    PRIMARY KEY (address_hash, purpose, request_id),
    FOREIGN KEY (address_hash, purpose) REFERENCES one_time_codes (address_hash, purpose) ON DELETE CASCADE
);

-- How often a network has tried the code that there is now.
CREATE TABLE code_tries (
    address_hash BYTEA NOT NULL,
    purpose BIGINT NOT NULL,
    network_hash BYTEA NOT NULL,
    tries BIGINT NOT NULL,
    PRIMARY KEY (address_hash, purpose, network_hash),
    FOREIGN KEY (address_hash, purpose) REFERENCES one_time_codes (address_hash, purpose) ON DELETE CASCADE
);

-- The codes of a user who goes.
CREATE INDEX one_time_codes_user ON one_time_codes (user_id);
-- The sweeper takes what no longer counts.
CREATE INDEX one_time_codes_issue ON one_time_codes (issue_time);

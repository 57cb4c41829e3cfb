-- One-time codes by flow. Before, an address had one code for a purpose, and strangers who asked for codes or guessed them
-- ended it for its owner. A flow is known by the keyed sum of the id that it was given, or of the network that asks.
-- `one_time_codes`, `code_requests` and `code_tries` are not used any more and stay for processes of the version before;
-- a later migration drops them.
DELETE FROM one_time_codes;

-- The addresses that codes were asked for, by purpose. Whether or not an account has the address a row is written. The row
-- is locked while a request is counted, so that no two requests pass the same count.
CREATE TABLE code_slots (
    address_hash BYTEA NOT NULL,
    purpose BIGINT NOT NULL,
    -- The latest request.
    ask_time BIGINT NOT NULL,
    PRIMARY KEY (address_hash, purpose)
);

-- The last code of each flow.
CREATE TABLE code_flows (
    address_hash BYTEA NOT NULL,
    purpose BIGINT NOT NULL,
    flow_hash BYTEA NOT NULL,
    -- Who has the address; NULL when nobody has, and then no code is right.
    user_id UUID,
    -- HMAC-SHA256 of the code. Without the key, six digits would be guessed from a plain sum at once.
    code_hash BYTEA NOT NULL,
    -- A token of 130 bits in place of a few digits.
    is_token BOOLEAN NOT NULL,
    tries BIGINT NOT NULL,
    used BOOLEAN NOT NULL,
    expire_time BIGINT NOT NULL,
    PRIMARY KEY (address_hash, purpose, flow_hash),
    FOREIGN KEY (address_hash, purpose) REFERENCES code_slots (address_hash, purpose) ON DELETE CASCADE
);

-- Who asked within the last hour, by the keyed sum of a network: one that asks too often keeps itself from getting more,
-- and no other.
CREATE TABLE code_asks (
    address_hash BYTEA NOT NULL,
    purpose BIGINT NOT NULL,
    ask_id UUID NOT NULL,
    network_hash BYTEA NOT NULL,
    ask_time BIGINT NOT NULL,
    is_token BOOLEAN NOT NULL,
    PRIMARY KEY (address_hash, purpose, ask_id),
    FOREIGN KEY (address_hash, purpose) REFERENCES code_slots (address_hash, purpose) ON DELETE CASCADE
);

-- The codes of a user who goes.
CREATE INDEX code_flows_user ON code_flows (user_id);
-- The sweeper takes what no longer counts.
CREATE INDEX code_slots_ask ON code_slots (ask_time);

-- What is between two people. Every change takes the lock of both people's rows first, the smaller id before the larger:
-- two who do something to each other at the same moment do it one after the other.

-- What a person lets others do, and how much there is of what has bounds. Who is not in here has set nothing and has
-- nothing.
CREATE TABLE people (
    user_id UUID PRIMARY KEY,
    -- The numbers of FirstContact and PresenceVisibility in the contract.
    first_contact BIGINT NOT NULL DEFAULT 1 CHECK (first_contact BETWEEN 1 AND 2),
    presence BIGINT NOT NULL DEFAULT 1 CHECK (presence BETWEEN 1 AND 3),
    waiting_requests BIGINT NOT NULL DEFAULT 0 CHECK (waiting_requests >= 0),
    connections BIGINT NOT NULL DEFAULT 0 CHECK (connections >= 0),
    blocks BIGINT NOT NULL DEFAULT 0 CHECK (blocks >= 0),
    -- Set when the account is deleted: from then on nothing comes to be between the person and anybody.
    delete_time BIGINT
);

CREATE TABLE pairs (
    low_user_id UUID NOT NULL,
    high_user_id UUID NOT NULL,
    -- Goes up by one with every change.
    version BIGINT NOT NULL CHECK (version >= 1),
    -- Since when the two are connected.
    connect_time BIGINT,
    -- Whether they may write to each other whatever they have set: a message request was accepted, or the one who takes
    -- nobody unasked has written first.
    is_open BOOLEAN NOT NULL,
    -- Since when one of them blocks the other.
    low_block_time BIGINT,
    high_block_time BIGINT,
    -- The request by which they are connected, or the last one since they were.
    connection_request_id UUID,
    -- The last one.
    message_request_id UUID,
    PRIMARY KEY (low_user_id, high_user_id),
    CHECK (low_user_id < high_user_id)
);

-- What ends with an account: the primary key serves the other half.
-- It has the lower one too, so that whoever looks for one pair by it finds one row, however many the person has.
CREATE INDEX pairs_by_high_user ON pairs (high_user_id, low_user_id);

-- A page of connections, newest first: a person is the lower one of some pairs and the higher one of others.
CREATE INDEX pairs_connected_by_low ON pairs (low_user_id, connect_time, high_user_id) WHERE connect_time IS NOT NULL;
CREATE INDEX pairs_connected_by_high ON pairs (high_user_id, connect_time, low_user_id) WHERE connect_time IS NOT NULL;

-- The same for blocks.
CREATE INDEX pairs_blocked_by_low ON pairs (low_user_id, low_block_time, high_user_id) WHERE low_block_time IS NOT NULL;
CREATE INDEX pairs_blocked_by_high ON pairs (high_user_id, high_block_time, low_user_id) WHERE high_block_time IS NOT NULL;

CREATE TABLE requests (
    request_id UUID PRIMARY KEY,
    -- The numbers of RequestKind in the contract.
    kind BIGINT NOT NULL CHECK (kind BETWEEN 1 AND 2),
    from_user_id UUID NOT NULL,
    to_user_id UUID NOT NULL,
    -- The numbers of RequestState in the contract, and 5: its author waits, the other does not see it.
    state BIGINT NOT NULL CHECK (state BETWEEN 1 AND 5),
    version BIGINT NOT NULL CHECK (version >= 1),
    -- Only of a message request: where its message is, and since which membership version of that conversation.
    conversation_id UUID,
    request_version BIGINT NOT NULL,
    -- What makes a retry safe: of the call that made it, and of the one by which the other asked for the same.
    retry_id UUID,
    met_retry_id UUID,
    create_time BIGINT NOT NULL,
    answer_time BIGINT,
    CHECK ((kind = 2) = (conversation_id IS NOT NULL)),
    CHECK ((state IN (1, 5)) = (answer_time IS NULL))
);

-- At most one waits.
CREATE UNIQUE INDEX requests_that_wait ON requests (from_user_id, to_user_id, kind) WHERE state IN (1, 5);

-- A retried call finds what the first one made.
CREATE UNIQUE INDEX requests_by_retry ON requests (from_user_id, retry_id) WHERE retry_id IS NOT NULL;
CREATE UNIQUE INDEX requests_by_met_retry ON requests (to_user_id, met_retry_id) WHERE met_retry_id IS NOT NULL;

-- How often one person has asked another of late, and what ends with an account.
CREATE INDEX requests_between ON requests (from_user_id, to_user_id, kind, create_time);

-- Pages of requests, newest first; most look at those that wait.
CREATE INDEX requests_made ON requests (from_user_id, kind, create_time, request_id);
CREATE INDEX requests_received ON requests (to_user_id, kind, create_time, request_id);
CREATE INDEX requests_made_that_wait ON requests (from_user_id, kind, create_time, request_id) WHERE state IN (1, 5);
CREATE INDEX requests_received_that_wait ON requests (to_user_id, kind, create_time, request_id) WHERE state = 1;

-- Between whom something is, or is no longer, that auth has to know, until it has taken note of it. A later change takes
-- the place of an earlier one of its kind.
CREATE TABLE acquaintances (
    low_user_id UUID NOT NULL,
    high_user_id UUID NOT NULL,
    -- The numbers of AcquaintanceKind in the contract: a connection, or a block.
    kind BIGINT NOT NULL CHECK (kind IN (1, 3)),
    version BIGINT NOT NULL,
    has_ended BOOLEAN NOT NULL,
    -- When to tell auth (again).
    due_time BIGINT NOT NULL,
    PRIMARY KEY (low_user_id, high_user_id, kind)
);

CREATE INDEX acquaintances_by_due_time ON acquaintances (due_time, low_user_id, high_user_id, kind);

-- Whether who may write in a direct conversation depends on what its two people have set. It does when one of them took
-- nobody unasked when it was made, and after a block; a conversation between two who took everyone stays open.
ALTER TABLE conversations ADD COLUMN gated BOOLEAN NOT NULL DEFAULT FALSE;

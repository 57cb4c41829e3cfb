-- Calls of one person to another. How a call stands is decided by rules in the program; here is what must hold whatever
-- they say: a person is in one call at a time, and a call that can still become something has a time at which it ends.

CREATE TABLE calls (
    call_id UUID PRIMARY KEY,
    conversation_id UUID NOT NULL,
    -- The two. The id of nothing stands for one whose account is gone.
    caller_id UUID NOT NULL,
    caller_session UUID NOT NULL,
    callee_id UUID NOT NULL,
    -- The numbers of CallMedia in the contract: audio, video.
    media BIGINT NOT NULL CHECK (media BETWEEN 1 AND 2),
    -- The numbers of CallState in the contract: ringing, accepted, ended, rejected, busy, missed, cancelled, failed.
    state BIGINT NOT NULL CHECK (state BETWEEN 1 AND 8),
    version BIGINT NOT NULL CHECK (version > 0),
    create_time BIGINT NOT NULL,
    ring_until BIGINT NOT NULL,
    -- Without a word it is over then.
    deadline BIGINT,
    -- The device that answered, and what is known since.
    callee_session UUID,
    accept_time BIGINT,
    longest_until BIGINT,
    connect_time BIGINT,
    -- Who of them has said so.
    caller_connected BOOLEAN NOT NULL DEFAULT FALSE,
    callee_connected BOOLEAN NOT NULL DEFAULT FALSE,
    caller_lost_time BIGINT,
    callee_lost_time BIGINT,
    -- How it was over.
    end_time BIGINT,
    ended_by UUID,
    duration BIGINT CHECK (duration >= 0),
    CHECK ((state IN (1, 2)) = (deadline IS NOT NULL)),
    CHECK ((state IN (1, 2)) = (end_time IS NULL)),
    CHECK ((state IN (2, 3, 8)) = (callee_session IS NOT NULL)),
    CHECK ((callee_session IS NULL) = (accept_time IS NULL)),
    CHECK ((callee_session IS NULL) = (longest_until IS NULL)),
    CHECK (connect_time IS NULL OR accept_time IS NOT NULL)
);

-- Who was in which call: the history of each, and the promise that a person is in one live call at most.
CREATE TABLE call_members (
    user_id UUID NOT NULL,
    call_id UUID NOT NULL REFERENCES calls (call_id) ON DELETE CASCADE,
    peer_id UUID NOT NULL,
    -- Whether the user has called, and was not called.
    outgoing BOOLEAN NOT NULL,
    -- Whether something may still become of the call.
    live BOOLEAN NOT NULL,
    -- That of the call, so that a list of somebody's calls in one state is read from here alone.
    state BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (user_id, call_id)
);

CREATE UNIQUE INDEX call_members_live ON call_members (user_id) WHERE live;
-- A page of somebody's calls, newest first.
CREATE INDEX call_members_by_time ON call_members (user_id, create_time, call_id);
-- The same of those with one person, of those in one state, and of those that nobody has answered: somebody may have few
-- of them among many.
CREATE INDEX call_members_by_peer ON call_members (user_id, peer_id, create_time, call_id);
CREATE INDEX call_members_by_state ON call_members (user_id, state, create_time, call_id);
CREATE INDEX call_members_missed ON call_members (user_id, create_time, call_id)
    WHERE NOT outgoing AND state IN (5, 6, 7);
-- The members of a call.
CREATE INDEX call_members_by_call ON call_members (call_id);

-- Those who have called or were called. Whoever changes a call locks the rows of both, in the order of their ids, so
-- that two who call each other at the same moment meet.
CREATE TABLE call_users (
    user_id UUID PRIMARY KEY,
    -- Set when the account is deleted: from then on there are no calls with the user.
    delete_time BIGINT
);

-- What makes a retried call find what the first one made, and what the first one said.
CREATE TABLE call_requests (
    user_id UUID NOT NULL,
    request_id UUID NOT NULL,
    fingerprint BYTEA NOT NULL,
    call_id UUID NOT NULL REFERENCES calls (call_id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, request_id)
);

CREATE INDEX call_requests_by_call ON call_requests (call_id);

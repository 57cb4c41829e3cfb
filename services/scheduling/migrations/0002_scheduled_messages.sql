-- Messages to be sent later. That one is being sent at the moment is not a state of its own: its timer knows.

CREATE TABLE scheduled_messages (
    author_id UUID NOT NULL,
    scheduled_message_id UUID NOT NULL,
    conversation_id UUID NOT NULL,
    -- An encoded parlor.messaging.v1.Content, so that a new kind needs no new column. Erased once it is sent (the message
    -- has it) or cancelled; kept while it is pending, and after a failure, so that the author can see what was not sent.
    content BYTEA,
    send_time BIGINT NOT NULL,
    -- The numbers of ScheduledMessageState in the contract: pending, sent, cancelled, failed.
    state BIGINT NOT NULL CHECK (state BETWEEN 1 AND 4),
    message_id UUID,
    failure_reason TEXT,
    -- What makes a retried call find what the first one made, and what the first one said.
    request_id UUID,
    request_fingerprint BYTEA,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    PRIMARY KEY (author_id, scheduled_message_id),
    CHECK (state <> 1 OR content IS NOT NULL),
    CHECK (state NOT IN (2, 3) OR content IS NULL),
    CHECK ((state = 2) = (message_id IS NOT NULL)),
    CHECK ((state = 4) = (failure_reason IS NOT NULL)),
    CHECK ((request_id IS NULL) = (request_fingerprint IS NULL))
);

-- A call that is made twice schedules once.
CREATE UNIQUE INDEX scheduled_messages_by_request ON scheduled_messages (author_id, request_id)
    WHERE request_id IS NOT NULL;
-- A page of somebody's scheduled messages, earliest first.
CREATE INDEX scheduled_messages_by_send_time ON scheduled_messages (author_id, send_time, scheduled_message_id);
-- How many are pending: counted before another one comes.
CREATE INDEX scheduled_messages_pending ON scheduled_messages (author_id) WHERE state = 1;

-- Those who have scheduled something. Whoever schedules locks the row first, so that two calls at the same moment cannot
-- both take the last free place.
CREATE TABLE authors (
    author_id UUID PRIMARY KEY,
    -- Set when the account is deleted: from then on nothing can be scheduled for the user.
    delete_time BIGINT
);

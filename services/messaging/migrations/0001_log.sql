-- The log of every conversation, and the messages that it is mostly about. Both keys lead with the conversation, so that
-- the tables can be split by it.

-- How far each conversation has come. Who writes into a conversation moves this row on and holds its lock until the
-- commit: that is why sequences have no gaps and appear in their order, whichever process takes them.
CREATE TABLE conversation_heads (
    conversation_id UUID PRIMARY KEY,
    last_sequence BIGINT NOT NULL,
    -- The sequence of the last message, 0 for none: the inbox shows that message without looking for it.
    last_message_sequence BIGINT NOT NULL,
    -- When the last message was sent, or the conversation was made: the order of the inbox.
    activity_time BIGINT NOT NULL,
    -- Set when the conversation is gone: nothing is added to its log any more.
    delete_time BIGINT
);

-- Messages as they stand now. A message is its own entry in the log, under the sequence at which it was sent: what is
-- written most often is written once.
CREATE TABLE messages (
    conversation_id UUID NOT NULL,
    sequence BIGINT NOT NULL,
    message_id UUID NOT NULL,
    sender_id UUID NOT NULL,
    -- The conversation's membership version when it was sent.
    membership_version BIGINT NOT NULL,
    -- NULL when the sender gave none.
    client_message_id TEXT,
    -- Of what was asked: tells a retry from another message under the same client message id.
    fingerprint BYTEA NOT NULL,
    -- An encoded parlor.messaging.v1.Content, so that a new kind needs no new column. NULL on a tombstone.
    content BYTEA,
    reply_to UUID,
    create_time BIGINT NOT NULL,
    edit_time BIGINT,
    delete_time BIGINT,
    deleted_by UUID,
    version BIGINT NOT NULL DEFAULT 1,
    PRIMARY KEY (conversation_id, sequence),
    -- Found by id only together with the conversation: a foreign message id leads nowhere. The id comes first because new
    -- ids rise: the index grows at its end, while with the conversation first every message would change another page.
    UNIQUE (message_id, conversation_id),
    -- A retry is safe for ever. The tombstone keeps the key.
    UNIQUE (conversation_id, sender_id, client_message_id)
);

-- What happened besides messages being sent, in the same order of the conversation. An event about a message points to it
-- and does not repeat what it says: so a deleted text is gone from every replay at once.
CREATE TABLE events (
    conversation_id UUID NOT NULL,
    sequence BIGINT NOT NULL,
    kind TEXT NOT NULL,
    -- The message that it is about; NULL when it is about the conversation.
    message_sequence BIGINT,
    actor_id UUID,
    membership_version BIGINT NOT NULL,
    occur_time BIGINT NOT NULL,
    -- Only for what happened to the conversation itself: an encoded parlor.messaging.v1.Event with nothing but its payload.
    payload BYTEA,
    PRIMARY KEY (conversation_id, sequence)
);

-- When a member last wrote into a conversation with slow mode. Nowhere else: elsewhere nobody has to wait.
CREATE TABLE paces (
    conversation_id UUID NOT NULL,
    user_id UUID NOT NULL,
    send_time BIGINT NOT NULL,
    PRIMARY KEY (conversation_id, user_id)
);

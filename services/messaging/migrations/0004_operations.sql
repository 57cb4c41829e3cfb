-- What is done to messages after they were sent.

-- From this instant on nobody reads the message, whether or not it has been erased yet.
ALTER TABLE messages ADD COLUMN expire_time BIGINT;
-- How the message went: a number of parlor.messaging.v1.DeletionReason. NULL while it is there.
ALTER TABLE messages ADD COLUMN delete_reason BIGINT;
-- An encoded parlor.messaging.v1.Message with nothing but where it was forwarded from, whom it mentions, its reactions,
-- its pin, its poll's result and its link's preview. NULL for a message with none of these, as nearly all are.
ALTER TABLE messages ADD COLUMN details BYTEA;

-- What the sweeper has to erase.
CREATE INDEX messages_to_expire ON messages (expire_time) WHERE expire_time IS NOT NULL AND delete_time IS NULL;

-- Up to here the owner has emptied the conversation: what is not erased yet is unreadable all the same.
ALTER TABLE conversation_heads ADD COLUMN purged_sequence BIGINT NOT NULL DEFAULT 0;
ALTER TABLE conversation_heads ADD COLUMN purge_time BIGINT;
ALTER TABLE conversation_heads ADD COLUMN purged_by UUID;
-- Up to here the sweeper has erased.
ALTER TABLE conversation_heads ADD COLUMN swept_sequence BIGINT NOT NULL DEFAULT 0;
CREATE INDEX heads_to_sweep ON conversation_heads (conversation_id) WHERE purged_sequence > swept_sequence;

-- What messages said before they were edited.
CREATE TABLE revisions (
    conversation_id UUID NOT NULL,
    message_sequence BIGINT NOT NULL,
    version BIGINT NOT NULL,
    content BYTEA NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (conversation_id, message_sequence, version)
);

-- The messages that users deleted for themselves.
CREATE TABLE hidden_messages (
    user_id UUID NOT NULL,
    conversation_id UUID NOT NULL,
    message_sequence BIGINT NOT NULL,
    PRIMARY KEY (user_id, conversation_id, message_sequence)
);
CREATE INDEX hidden_by_conversation ON hidden_messages (conversation_id);

-- Who reacted to what. The counts in the messages' details always equal these rows: both change under the lock of the head.
CREATE TABLE reactions (
    conversation_id UUID NOT NULL,
    message_sequence BIGINT NOT NULL,
    user_id UUID NOT NULL,
    emoji TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (conversation_id, message_sequence, user_id, emoji)
);

-- The pinned messages.
CREATE TABLE pins (
    conversation_id UUID NOT NULL,
    message_sequence BIGINT NOT NULL,
    pin_time BIGINT NOT NULL,
    PRIMARY KEY (conversation_id, message_sequence)
);

-- Who voted for what. A vote takes a slot: always the same one where a person may choose one option only, so that the key
-- itself allows no second vote; the option's own number where several may be chosen.
CREATE TABLE votes (
    conversation_id UUID NOT NULL,
    message_sequence BIGINT NOT NULL,
    user_id UUID NOT NULL,
    slot BIGINT NOT NULL,
    option_index BIGINT NOT NULL,
    PRIMARY KEY (conversation_id, message_sequence, user_id, slot)
);

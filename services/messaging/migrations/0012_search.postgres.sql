-- What messages are found by. There is a file of the same number for SQLite: full text is where the two databases have no
-- word in common. What is written into the table is the same on both; the index differs, and how it is asked.

-- Messages that can be found: one row for each that is there and not secure, also when it has no words, since kind and
-- sender find it, too. Beside the messages and not in them: a reaction changes a message, and must not touch this index.
CREATE TABLE searchable (
    conversation_id UUID NOT NULL,
    message_sequence BIGINT NOT NULL,
    -- Rises with time: results come in its order.
    message_id UUID NOT NULL,
    sender_id UUID NOT NULL,
    -- A number of parlor.messaging.v1.MessageKind.
    kind BIGINT NOT NULL,
    -- The words, cut and folded by us, with a space between them. The first stands for the conversation: a search looks
    -- only at what is in the caller's conversations, however often a word was said elsewhere.
    words TEXT NOT NULL,
    PRIMARY KEY (conversation_id, message_sequence)
);

-- An index of exactly these words: no dictionary, no stop words, no language. The query says the same expression.
CREATE INDEX searchable_by_words ON searchable USING gin (array_to_tsvector(string_to_array(words, ' ')));

-- Texts (kind 1) are nearly all there is: to look for those by kind is to read the conversation. Everything else is rare,
-- and found without reading it. Nobody pays for this index when a text is sent.
CREATE INDEX searchable_by_kind ON searchable (conversation_id, kind, message_id) WHERE kind <> 1;

-- What messages are found by. There is a file of the same number for PostgreSQL: full text is where the two databases have
-- no word in common. What is written into the table is the same on both; the index differs, and how it is asked.

-- Messages that can be found: one row for each that is there and not secure, also when it has no words, since kind and
-- sender find it, too. Beside the messages and not in them: a reaction changes a message, and must not touch this index.
CREATE TABLE searchable (
    -- A name of its own for the row in the index. The hidden number that SQLite gives to rows may change with VACUUM.
    row_id INTEGER PRIMARY KEY,
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
    UNIQUE (conversation_id, message_sequence)
);

-- Texts (kind 1) are nearly all there is: to look for those by kind is to read the conversation. Everything else is rare,
-- and found without reading it. Nobody pays for this index when a text is sent.
CREATE INDEX searchable_by_kind ON searchable (conversation_id, kind, message_id) WHERE kind <> 1;

-- An index of exactly these words: only white space and punctuation, of which they have none, would end one. It knows which
-- rows have a word and not where in them, and keeps no text of its own.
CREATE VIRTUAL TABLE searchable_words USING fts5 (
    words, content = 'searchable', content_rowid = 'row_id', tokenize = 'ascii', detail = none, columnsize = 0
);
-- A word that goes is erased from the index at once, and not only marked as gone until the index is next put in order.
INSERT INTO searchable_words (searchable_words, rank) VALUES ('secure-delete', 1);
-- Every commit adds a small piece to the index. They are put together in larger lots: writers pay less often for it.
INSERT INTO searchable_words (searchable_words, rank) VALUES ('automerge', 16);

-- The index follows the table.
CREATE TRIGGER searchable_added AFTER INSERT ON searchable BEGIN
    INSERT INTO searchable_words (rowid, words) VALUES (new.row_id, new.words);
END;
CREATE TRIGGER searchable_removed AFTER DELETE ON searchable BEGIN
    INSERT INTO searchable_words (searchable_words, rowid, words) VALUES ('delete', old.row_id, old.words);
END;
CREATE TRIGGER searchable_changed AFTER UPDATE ON searchable BEGIN
    INSERT INTO searchable_words (searchable_words, rowid, words) VALUES ('delete', old.row_id, old.words);
    INSERT INTO searchable_words (rowid, words) VALUES (new.row_id, new.words);
END;

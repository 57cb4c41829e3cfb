-- Tickets that open an event stream for clients that can send no bearer token. A ticket stands in an address, and so in
-- logs and histories; that is why it opens one stream once, and afterwards only takes part in the reconnects of that
-- stream, together with the key of the stream. Both are kept only as SHA-256 sums. Tickets go with their session.
CREATE TABLE stream_tickets (
    ticket_hash BYTEA PRIMARY KEY,
    user_id UUID NOT NULL,
    session_id UUID NOT NULL,
    create_time BIGINT NOT NULL,
    -- The sum of the key of the stream that the ticket was first used for; absent until then.
    key_hash BYTEA,
    FOREIGN KEY (user_id, session_id) REFERENCES sessions (user_id, session_id) ON DELETE CASCADE
);

-- The tickets of one session: they are counted when one is made, and go when the session does.
CREATE INDEX stream_tickets_session ON stream_tickets (user_id, session_id, create_time);

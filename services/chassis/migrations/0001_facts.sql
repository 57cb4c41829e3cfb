-- Facts travel between services by being read, not by being sent: the service where one happened keeps it here, written
-- in the same transaction as the change itself, and whoever needs it asks for everything after the position it has seen.

-- The position taken last. One row: its lock, held to the end of the transaction, is what makes positions gapless and
-- lets nobody see a position before all smaller ones.
CREATE TABLE outbox_head (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    position BIGINT NOT NULL
);
INSERT INTO outbox_head (id, position) VALUES (1, 0);

-- The facts, in the words of the service that owns them. They are kept: a consumer that is new starts at the first one.
CREATE TABLE outbox (
    position BIGINT PRIMARY KEY,
    payload BYTEA NOT NULL,
    create_time BIGINT NOT NULL
);

-- How far this service has applied the facts of others. Moved in the same transaction as the effect of the fact.
CREATE TABLE feed_cursors (
    name TEXT PRIMARY KEY,
    position BIGINT NOT NULL
);

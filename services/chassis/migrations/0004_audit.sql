-- The acts of people and services that have to be accounted for: one row for each call of an rpc whose policy says `audited`,
-- written before the call is answered. Rows are only added.
CREATE TABLE audit_log (
    audit_id UUID PRIMARY KEY,
    occur_time BIGINT NOT NULL,
    -- The rpc, such as `/parlor.auth.v1.AuthService/Login`.
    action TEXT NOT NULL,
    -- `user:<id>`, with `service:<name> for ` before it when a service acts for the user; empty when it is not known.
    actor TEXT NOT NULL,
    -- The network that a call of a person who is not signed in came from; empty otherwise.
    origin TEXT NOT NULL,
    -- The ids in the request, such as `conversation_id=<id> user_id=<id>`.
    target TEXT NOT NULL,
    -- The gRPC code of the answer, such as `OK`.
    outcome TEXT NOT NULL,
    request_id TEXT NOT NULL,
    -- The place in the chain, 1 for the first, and the sum over the row and the sum of the row before it. A task adds them
    -- within a second or two.
    sequence BIGINT UNIQUE,
    hash BYTEA
);

CREATE INDEX audit_log_unchained ON audit_log (audit_id) WHERE sequence IS NULL;

-- The end of the chain.
CREATE TABLE audit_head (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    sequence BIGINT NOT NULL,
    hash BYTEA NOT NULL
);
INSERT INTO audit_head (id, sequence, hash) VALUES (1, 0, '');

-- Who is there. A row is written when somebody comes to a gateway or leaves it, and never while somebody stays; that the
-- gateways are there themselves is one row for each.

CREATE TABLE gateways (
    gateway_id UUID PRIMARY KEY,
    -- What it said counts until then. A lease that has ended does not come back: the gateway begins anew as another.
    lease_end_time BIGINT NOT NULL
);

-- Those whose time has come, for the task that clears up after them.
CREATE INDEX gateways_by_lease_end_time ON gateways (lease_end_time);

CREATE TABLE presences (
    user_id UUID NOT NULL,
    gateway_id UUID NOT NULL,
    PRIMARY KEY (user_id, gateway_id)
);

CREATE INDEX presences_by_gateway ON presences (gateway_id, user_id);

-- When somebody last left a gateway. Who is at one still, or at another, is there all the same.
CREATE TABLE last_seen (
    user_id UUID PRIMARY KEY,
    last_seen_time BIGINT NOT NULL
);

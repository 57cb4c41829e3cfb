-- Everything that waits for a time, whatever it is: a row says what is due and when, and what is due says the rest. A row
-- is gone as soon as what it stands for is done, in the same transaction, so that this table stays as small as the wait.

CREATE TABLE timers (
    -- Whose it is, what kind of thing it is, and which one.
    owner_id UUID NOT NULL,
    kind BIGINT NOT NULL,
    id UUID NOT NULL,
    -- Within a lane things happen one after the other, in the order in which they are due.
    lane UUID NOT NULL,
    -- When it is due: its place in the order.
    due_time BIGINT NOT NULL,
    -- When it can be claimed (again): the due time at first, the end of the lease once it is claimed, the next try when
    -- it was given back.
    wake_time BIGINT NOT NULL,
    -- Somebody has it, until wake_time.
    claimed BOOLEAN NOT NULL DEFAULT FALSE,
    -- An earlier claim may have done it without being able to say so. It can only be done again, never be taken back.
    in_doubt BOOLEAN NOT NULL DEFAULT FALSE,
    -- How often it has been claimed. Names the claim: one that is no longer the last can change nothing.
    attempt BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (owner_id, kind, id)
);

-- What can be claimed now, and when the next can be.
CREATE INDEX timers_by_wake_time ON timers (kind, wake_time);
-- Whether something comes before it in its lane.
CREATE INDEX timers_by_lane ON timers (kind, lane, due_time, id);

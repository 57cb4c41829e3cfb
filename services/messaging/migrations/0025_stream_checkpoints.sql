-- The positions of event streams in all the logs of a user, so that the id of an event stays short: it names one of these
-- rows and what has changed since. The positions are written and read by the gateway only.
CREATE TABLE stream_checkpoints (
    user_id UUID NOT NULL,
    checkpoint_id UUID NOT NULL,
    positions BYTEA NOT NULL,
    -- The time at which it was made, or a stream was resumed from it, or a living stream said that it needs it.
    use_time BIGINT NOT NULL,
    -- All questions but one are about the checkpoints of one user.
    PRIMARY KEY (user_id, checkpoint_id)
);

-- That one: the sweeper takes those that have not been used for long.
CREATE INDEX stream_checkpoints_use ON stream_checkpoints (use_time);

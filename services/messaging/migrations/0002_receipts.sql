-- How far each member has come. Both sequences only move forward.
CREATE TABLE watermarks (
    conversation_id UUID NOT NULL,
    user_id UUID NOT NULL,
    delivered_sequence BIGINT NOT NULL,
    read_sequence BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    -- Whether the user is a member. One who comes back finds its place again, but is not listed meanwhile.
    is_member BOOLEAN NOT NULL DEFAULT TRUE,
    PRIMARY KEY (conversation_id, user_id)
);

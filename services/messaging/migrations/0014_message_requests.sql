-- The one message that somebody may write before its message request is answered. The row comes with the message or with
-- what conversation tells of the request, whichever is first; both come under the lock of the conversation's head. What
-- people write without a request looks at none of this.
CREATE TABLE message_requests (
    conversation_id UUID NOT NULL,
    -- Who asks.
    user_id UUID NOT NULL,
    -- The conversation's membership version since when the request waits: what it is known by in a send.
    request_version BIGINT NOT NULL,
    -- What has been told of it; NULL until then.
    request_id UUID,
    to_user_id UUID,
    -- A number of parlor.messaging.v1.AlertState; 0 until it has been told.
    state BIGINT NOT NULL DEFAULT 0,
    -- Its message; NULL until it is there.
    message_sequence BIGINT,
    message_id UUID,
    PRIMARY KEY (conversation_id, user_id, request_version)
);

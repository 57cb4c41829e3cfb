-- What members show to the moderators of a conversation. A report outlives the message that it is about: otherwise whoever
-- was rude would only have to delete it. It goes with its conversation.
CREATE TABLE reports (
    conversation_id UUID NOT NULL,
    report_id UUID NOT NULL,
    message_id UUID NOT NULL,
    sender_id UUID NOT NULL,
    reporter_id UUID NOT NULL,
    -- A number of parlor.messaging.v1.ReportReason.
    reason BIGINT NOT NULL,
    comment TEXT NOT NULL,
    -- An encoded parlor.messaging.v1.Content: what the message said then. NULL for a secure and for an ephemeral one.
    snapshot BYTEA,
    create_time BIGINT NOT NULL,
    -- A number of parlor.messaging.v1.ReportState.
    state BIGINT NOT NULL,
    resolved_by UUID,
    resolve_time BIGINT,
    note TEXT NOT NULL,
    PRIMARY KEY (conversation_id, report_id)
);

-- Nobody reports a message twice.
CREATE UNIQUE INDEX reports_once ON reports (conversation_id, message_id, reporter_id);

-- A page of reports, newest first.
CREATE INDEX reports_by_time ON reports (conversation_id, create_time, report_id);

-- How many somebody has made within the hour.
CREATE INDEX reports_by_reporter ON reports (reporter_id, create_time);

-- Who has ever reported something. Only there to be locked: two reports of one user at once must not both be the last one
-- that is allowed.
CREATE TABLE reporters (
    user_id UUID PRIMARY KEY,
    last_report_time BIGINT NOT NULL
);

-- What users should look at.
CREATE TABLE alerts (
    user_id UUID NOT NULL,
    alert_id UUID NOT NULL,
    -- A number of parlor.messaging.v1.AlertKind.
    kind BIGINT NOT NULL,
    -- What it is about: the message for a mention. There is one alert per subject, however often something happens to it.
    subject UUID NOT NULL,
    -- Who caused it; NULL when nobody did.
    actor_id UUID,
    -- Where to look; NULL when it is about nothing in a conversation.
    conversation_id UUID,
    message_id UUID,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    -- NULL for unread.
    read_time BIGINT,
    PRIMARY KEY (user_id, alert_id),
    UNIQUE (user_id, kind, subject)
);

-- The inbox of alerts is read by last change.
CREATE INDEX alerts_by_change ON alerts (user_id, update_time, alert_id);
-- Counting the unread ones, and listing them alone.
CREATE INDEX alerts_unread ON alerts (user_id, update_time, alert_id) WHERE read_time IS NULL;
-- What goes with a conversation.
CREATE INDEX alerts_by_conversation ON alerts (conversation_id) WHERE conversation_id IS NOT NULL;

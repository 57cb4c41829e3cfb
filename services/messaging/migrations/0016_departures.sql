-- Accounts that are gone, and how far what they left has been erased. A row stays for ever: nothing is kept for its user any
-- more, however late it comes.
CREATE TABLE departures (
    user_id UUID PRIMARY KEY,
    -- What is erased now, and the last place that was: a number of the stage, and a message.
    stage BIGINT NOT NULL,
    after_time BIGINT NOT NULL,
    after_conversation UUID NOT NULL,
    after_sequence BIGINT NOT NULL,
    -- The last one of what is several times at such a place: an emoji.
    after_key TEXT NOT NULL,
    -- Goes up with every step: of replicas that do the same step at once, one does it.
    steps BIGINT NOT NULL,
    -- Everything is gone through twice: what was on its way when the account went may have come after the first time.
    round BIGINT NOT NULL,
    -- When to go on; NULL when all is done.
    due_time BIGINT
);
CREATE INDEX departures_due ON departures (due_time) WHERE due_time IS NOT NULL;

-- By whom something is, where it was found only by where it is.
CREATE INDEX reactions_by_user ON reactions (user_id, conversation_id, message_sequence, emoji);
CREATE INDEX votes_by_user ON votes (user_id, conversation_id, message_sequence, option_index);
CREATE INDEX watermarks_by_user ON watermarks (user_id);
CREATE INDEX paces_by_user ON paces (user_id);
CREATE INDEX uploads_by_user ON uploads (user_id, upload_id);

-- Who pinned it; NULL when nobody says so any more. Those that were pinned before this column was there name nobody here.
ALTER TABLE pins ADD COLUMN user_id UUID;
CREATE INDEX pins_by_user ON pins (user_id, conversation_id, message_sequence) WHERE user_id IS NOT NULL;

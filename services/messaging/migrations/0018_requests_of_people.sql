-- Whose message requests they are, for what goes with an account.
CREATE INDEX message_requests_by_user ON message_requests (user_id);
CREATE INDEX message_requests_by_asked ON message_requests (to_user_id) WHERE to_user_id IS NOT NULL;

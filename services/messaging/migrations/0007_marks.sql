-- Who reacted to a message is listed oldest first; this index serves that page and nothing else.
CREATE INDEX reactions_by_time ON reactions (conversation_id, message_sequence, create_time, user_id, emoji);

-- The messages of a conversation that are not tombstones, in their order. A list without tombstones reads it, so that a
-- long run of tombstones costs nothing. An index of the tombstones instead would have to be read to its end.
CREATE INDEX messages_present ON messages (conversation_id, sequence) WHERE delete_time IS NULL;

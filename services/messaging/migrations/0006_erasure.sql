-- A message that goes takes along what its events told: they are found by the message, and only those that tell something.
CREATE INDEX events_to_erase ON events (conversation_id, message_sequence)
    WHERE message_sequence IS NOT NULL AND payload IS NOT NULL;

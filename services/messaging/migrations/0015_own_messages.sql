-- What somebody wrote, wherever that was, by time: the conversations in which it writes most, all that it takes along, and
-- all that goes with its account. The conversation stands in the index so that counting reads no message.
CREATE INDEX messages_by_sender ON messages (sender_id, create_time, conversation_id);

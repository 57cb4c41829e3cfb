-- Whether everyone may read what is in a conversation, members or not. A change of it makes a new membership version, so
-- that those who follow the conversation are checked before they get what is written after the change.
ALTER TABLE conversations ADD COLUMN public_read BOOLEAN NOT NULL DEFAULT FALSE;

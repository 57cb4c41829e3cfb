-- The namespace of the external accounts that a conversation is for, taken from the account that made it; NULL for every
-- other conversation. It is kept here so that joining and adding need not look up the creator, whose account may be
-- deleted by then. It never changes.
ALTER TABLE conversations ADD COLUMN external_namespace TEXT;

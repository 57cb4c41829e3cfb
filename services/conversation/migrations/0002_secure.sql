-- Whether a conversation takes secure messages only. It is set and never taken back: nobody who wrote there under that
-- promise may find it broken later.
ALTER TABLE conversations ADD COLUMN secure BOOLEAN NOT NULL DEFAULT FALSE;

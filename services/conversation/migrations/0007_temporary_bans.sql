-- When a ban ends; NULL for one without end. A ban that has ended is none from that instant on: every read leaves it out.
-- Its row goes when the user comes in again.
ALTER TABLE bans ADD COLUMN expire_time BIGINT;

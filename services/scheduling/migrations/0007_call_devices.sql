-- Without a word from a device of the two whose last connection is gone the call is over then; NULL for a device that is
-- connected, or never was. The deadline of the talk is kept beside it while one of them is away: `deadline` is the earliest.
ALTER TABLE calls ADD COLUMN caller_away_until BIGINT;
ALTER TABLE calls ADD COLUMN callee_away_until BIGINT;
ALTER TABLE calls ADD COLUMN talk_deadline BIGINT;

-- A departure whose step fails is put off for longer and longer, so that those after it do not wait for it.

-- How often its next step has failed.
ALTER TABLE departures ADD COLUMN failures BIGINT NOT NULL DEFAULT 0;
-- Since when its next step could have been done, however often it was put off; NULL when all is done.
ALTER TABLE departures ADD COLUMN ready_time BIGINT;
UPDATE departures SET ready_time = due_time;
-- Which has waited longest.
CREATE INDEX departures_ready ON departures (ready_time) WHERE ready_time IS NOT NULL;

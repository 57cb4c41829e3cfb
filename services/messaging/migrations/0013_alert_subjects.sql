-- An alert changes with its subject: what last became of it, and by which version of it the alert was last changed, so that
-- what comes again, or late, changes nothing. Of a mention there is one version only.

-- A number of parlor.messaging.v1.AlertState.
ALTER TABLE alerts ADD COLUMN state BIGINT NOT NULL DEFAULT 0;
ALTER TABLE alerts ADD COLUMN version BIGINT NOT NULL DEFAULT 0;

-- Who asks, in an alert about a request: the actor is whoever changed it last. NULL for other alerts, and for requests that
-- were answered before this column was there and have not changed since: their alerts do not tell the two apart.
ALTER TABLE alerts ADD COLUMN requester_id UUID;
-- Of requests (kinds 2 and 3) that wait or were taken back (states 1 and 4) only the one who is asked has an alert.
UPDATE alerts SET requester_id = actor_id WHERE kind IN (2, 3) AND state IN (1, 4);

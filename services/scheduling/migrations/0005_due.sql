-- What is due, in the order in which it is to be done. Without it whoever claims a few of many has to sort them all, again
-- and again while they become fewer.
CREATE INDEX timers_by_due_time ON timers (kind, due_time, id);

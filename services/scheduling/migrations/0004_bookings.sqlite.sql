-- Booked calls. There is a file of the same number for PostgreSQL, which can say in a constraint what a trigger says here:
-- that no two bookings of a person meet. There is one writer, so that nothing comes between the look and the row.

CREATE TABLE schedules (
    schedule_id UUID PRIMARY KEY,
    booker_id UUID NOT NULL,
    attendee_id UUID NOT NULL,
    title TEXT NOT NULL,
    -- The title in small letters, to be searched in.
    folded_title TEXT NOT NULL,
    video BOOLEAN NOT NULL,
    -- The first time.
    start_time BIGINT NOT NULL,
    end_time BIGINT NOT NULL,
    -- How it comes again: a rule of RFC 5545, or nothing; and the IANA name of the zone whose local time it keeps.
    rrule TEXT NOT NULL,
    time_zone TEXT NOT NULL,
    -- Seconds before each time, with a space between two.
    reminders TEXT NOT NULL,
    occurrence_count BIGINT NOT NULL,
    last_end_time BIGINT NOT NULL,
    -- One up with every change, and who made the last one. Nobody did where messaging refused.
    version BIGINT NOT NULL,
    actor_id UUID,
    -- 1 booked, 2 cancelled, 3 refused by messaging.
    state BIGINT NOT NULL CHECK (state BETWEEN 1 AND 3),
    failure_reason TEXT,
    -- The version that the other person was told of last, 0 for none, and the message of it.
    told_version BIGINT NOT NULL DEFAULT 0,
    conversation_id UUID,
    message_id UUID,
    -- How often both were reminded since the last change, and when they are next. A row of `timers` goes with it.
    reminder_count BIGINT NOT NULL DEFAULT 0,
    remind_time BIGINT,
    -- What makes a retried call find what the first one made, and what the first one said.
    request_id UUID,
    request_fingerprint BYTEA,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    CHECK (booker_id <> attendee_id),
    CHECK (end_time > start_time),
    CHECK ((state = 3) = (failure_reason IS NOT NULL)),
    CHECK ((conversation_id IS NULL) = (message_id IS NULL)),
    CHECK ((request_id IS NULL) = (request_fingerprint IS NULL))
);

-- A call that is made twice books once.
CREATE UNIQUE INDEX schedules_by_request ON schedules (booker_id, request_id) WHERE request_id IS NOT NULL;
-- Somebody's bookings by when they are over, and how many are to come.
CREATE INDEX schedules_by_booker ON schedules (booker_id, last_end_time, schedule_id);
CREATE INDEX schedules_by_attendee ON schedules (attendee_id, last_end_time, schedule_id);
-- The same by when they begin.
CREATE INDEX schedules_by_booker_start ON schedules (booker_id, start_time, schedule_id);
CREATE INDEX schedules_by_attendee_start ON schedules (attendee_id, start_time, schedule_id);

-- Each time that a booking takes place, for each of the two: from the start up to, and without, the end.
CREATE TABLE occurrences (
    user_id UUID NOT NULL,
    schedule_id UUID NOT NULL,
    start_time BIGINT NOT NULL,
    end_time BIGINT NOT NULL,
    -- The booking is in it so that what begins together is refused as an overlap, like all that meets.
    PRIMARY KEY (user_id, start_time, schedule_id),
    -- A look for what meets a time goes back one day.
    CHECK (end_time > start_time AND end_time - start_time <= 86400000)
);

CREATE INDEX occurrences_by_schedule ON occurrences (schedule_id, user_id, end_time);

CREATE TRIGGER occurrences_overlap BEFORE INSERT ON occurrences
WHEN EXISTS (
    SELECT 1 FROM occurrences
    WHERE user_id = NEW.user_id AND start_time < NEW.end_time AND end_time > NEW.start_time
      AND start_time > NEW.start_time - 86400000
)
BEGIN
    SELECT RAISE(ABORT, 'occurrences_overlap');
END;

-- A row is written once and never changed, so that the look before it holds for good.
CREATE TRIGGER occurrences_stay BEFORE UPDATE ON occurrences
BEGIN
    SELECT RAISE(ABORT, 'occurrences are not changed');
END;

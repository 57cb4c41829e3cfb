-- Booked calls. There is a file of the same number for SQLite: PostgreSQL can say in a constraint that no two bookings of
-- a person meet, whoever writes them and however many do at once. SQLite cannot, and has a trigger; it has one writer, so
-- that nothing comes between the look and the row.

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

-- An instant in somebody's life. Ordered by person and then by time, a range of them is within one life, and two ranges
-- meet just when they are of one person and meet in time. So the constraint needs no extension that a server might lack.
CREATE TYPE moment AS (user_id UUID, at BIGINT);
CREATE TYPE stretch AS RANGE (SUBTYPE = moment);

-- Each time that a booking takes place, for each of the two: from the start up to, and without, the end.
CREATE TABLE occurrences (
    user_id UUID NOT NULL,
    schedule_id UUID NOT NULL,
    start_time BIGINT NOT NULL,
    end_time BIGINT NOT NULL,
    -- The booking is in it so that what begins together is refused as an overlap, like all that meets.
    PRIMARY KEY (user_id, start_time, schedule_id),
    -- A look for what meets a time goes back one day.
    CHECK (end_time > start_time AND end_time - start_time <= 86400000),
    CONSTRAINT occurrences_overlap EXCLUDE USING gist (
        stretch(CAST(ROW(user_id, start_time) AS moment), CAST(ROW(user_id, end_time) AS moment)) WITH &&
    )
);

CREATE INDEX occurrences_by_schedule ON occurrences (schedule_id, user_id, end_time);

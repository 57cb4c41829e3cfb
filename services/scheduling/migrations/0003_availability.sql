-- When people are free, as they say it themselves.

CREATE TABLE availabilities (
    user_id UUID PRIMARY KEY,
    -- The ranges of each day from Monday on in local time, such as `09:00-12:00 13:00-17:00`, with a `/` between two days.
    week TEXT NOT NULL,
    -- An IANA name; empty for the time zone of the user's profile.
    time_zone TEXT NOT NULL,
    -- How others may book: all in milliseconds.
    slot_length BIGINT NOT NULL,
    buffer_before BIGINT NOT NULL,
    buffer_after BIGINT NOT NULL,
    notice BIGINT NOT NULL,
    update_time BIGINT NOT NULL
);

-- Dates on which something else holds than the week says. Those that are past go when somebody sets others.
CREATE TABLE custom_days (
    user_id UUID NOT NULL,
    -- `YYYY-MM-DD`, so that the order of texts is that of dates.
    date TEXT NOT NULL,
    -- As in a week; empty for a date on which the user is not free.
    ranges TEXT NOT NULL,
    PRIMARY KEY (user_id, date)
);

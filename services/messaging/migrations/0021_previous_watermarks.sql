-- Where a watermark was before it last moved: a receipt says so, and this is how the statement that moves it learns it, under
-- the lock of the row and without another query.
ALTER TABLE watermarks ADD COLUMN previous_delivered_sequence BIGINT NOT NULL DEFAULT 0;
ALTER TABLE watermarks ADD COLUMN previous_read_sequence BIGINT NOT NULL DEFAULT 0;

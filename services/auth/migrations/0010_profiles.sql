-- What users say about themselves, and who sees it. Who has said nothing shows nothing, to everyone: the defaults make
-- that of the accounts that are there already.
ALTER TABLE users ADD COLUMN gender BIGINT NOT NULL DEFAULT 0;
-- The day as one number, 19550430. Ages are differences of such numbers, in the service as in a query.
ALTER TABLE users ADD COLUMN date_of_birth BIGINT;
-- A BCP 47 tag in its one spelling; empty when not said.
ALTER TABLE users ADD COLUMN language TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN city TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN region TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN country TEXT NOT NULL DEFAULT '';
-- City, region and the name of the country, folded by the service as `search` is.
ALTER TABLE users ADD COLUMN place_search TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN video_url TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN category TEXT NOT NULL DEFAULT '';
-- 1 everyone, 2 connections, 3 the listed categories, 4 nobody.
ALTER TABLE users ADD COLUMN visibility BIGINT NOT NULL DEFAULT 1;
-- 0 for any number, and 0 milliseconds for any length.
ALTER TABLE users ADD COLUMN max_calls_per_day BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN max_call_millis BIGINT NOT NULL DEFAULT 0;
-- An IANA name; empty when not said.
ALTER TABLE users ADD COLUMN time_zone TEXT NOT NULL DEFAULT '';

-- Few of many users are of one category or speak one language: a page of them, in the order of ids, reads only them.
CREATE INDEX users_category ON users (category, user_id) WHERE category <> '';
CREATE INDEX users_language ON users (language, user_id) WHERE language <> '';

-- The categories that see a profile whose visibility is 3.
CREATE TABLE visible_categories (
    user_id UUID NOT NULL REFERENCES users (user_id),
    category TEXT NOT NULL,
    PRIMARY KEY (user_id, category)
);

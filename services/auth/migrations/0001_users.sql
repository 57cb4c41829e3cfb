-- Who may sign in. Names are unique here and nowhere else: two who register the same name at the same moment are told
-- apart by the index, not by a look beforehand.
CREATE TABLE users (
    -- UUIDv7: the order of ids is the order in which accounts came, and lists of users follow it.
    user_id UUID PRIMARY KEY,
    -- 1 registered, 2 guest, 0 for what remains of a deleted account.
    kind BIGINT NOT NULL,
    -- In lower case, as it is compared. Guests have none, and a deleted account has given its name back.
    username TEXT,
    display_name TEXT NOT NULL,
    -- The address as it was typed, and as it is compared.
    email TEXT,
    email_key TEXT,
    bio TEXT NOT NULL,
    picture_url TEXT NOT NULL,
    -- Argon2id in PHC form, with its parameters. Guests have none.
    password_hash TEXT,
    -- Username and display name, folded by the service: SQLite and PostgreSQL do not agree on what lower case is.
    search TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    -- Set on a tombstone: the row stays so that its id still stands for somebody, and everything else in it is erased.
    delete_time BIGINT
);

-- Sign-in by name, and no name twice. Absent names do not collide.
CREATE UNIQUE INDEX users_username ON users (username);
-- Sign-in by address, and no address twice.
CREATE UNIQUE INDEX users_email_key ON users (email_key);
-- The sweeper looks for guests without a session; there are few guests among many accounts, so it reads only them.
CREATE INDEX users_guests ON users (user_id) WHERE kind = 2;

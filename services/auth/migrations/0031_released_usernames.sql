-- The usernames of deleted accounts, as SHA-256 sums: for a while nobody else gets them and is taken for who had them.
CREATE TABLE released_usernames (
    name_hash BYTEA PRIMARY KEY,
    delete_time BIGINT NOT NULL
);

-- The sweeper removes names that are free again.
CREATE INDEX released_usernames_delete ON released_usernames (delete_time);

-- Files. Their bytes are elsewhere, in objects; here is whose they are, and what refers to them.

CREATE TABLE uploads (
    upload_id UUID PRIMARY KEY,
    user_id UUID NOT NULL,
    name TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    -- Where the bytes are, and their SHA-256; NULL while the upload is pending.
    object_id UUID,
    sha256 BYTEA,
    -- From when on the sweeper may remove it. NULL while messages refer to it, and 0 once the last of them is gone.
    sweep_time BIGINT
);

-- How many files a user has begun and not finished.
CREATE INDEX uploads_pending ON uploads (user_id, create_time) WHERE object_id IS NULL;
-- What the sweeper has to look at.
CREATE INDEX uploads_to_sweep ON uploads (sweep_time) WHERE sweep_time IS NOT NULL;

-- Which messages refer to which files. Written with the message, and gone with it.
CREATE TABLE upload_references (
    upload_id UUID NOT NULL,
    conversation_id UUID NOT NULL,
    message_sequence BIGINT NOT NULL,
    PRIMARY KEY (upload_id, conversation_id, message_sequence)
);
CREATE INDEX references_by_message ON upload_references (conversation_id, message_sequence);

-- Every object that was ever begun, so that none is forgotten when a process ends in the middle: a row comes before its
-- object and goes after it. Each attempt to write a file has an object of its own: two writers never mix their bytes.
CREATE TABLE upload_objects (
    object_id UUID PRIMARY KEY,
    upload_id UUID NOT NULL,
    -- NULL once it is the file. Otherwise from when on it is rubbish; 0 when that is certain.
    sweep_time BIGINT
);
CREATE INDEX objects_by_upload ON upload_objects (upload_id);
CREATE INDEX objects_to_sweep ON upload_objects (sweep_time) WHERE sweep_time IS NOT NULL;

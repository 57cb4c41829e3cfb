-- Conversations, who is in them and who is kept out. Every change of members or roles happens under the lock of the
-- conversation's row, so that its membership version is a history without gaps.

CREATE TABLE conversations (
    conversation_id UUID PRIMARY KEY,
    -- The numbers of ConversationKind in the contract.
    kind BIGINT NOT NULL CHECK (kind BETWEEN 1 AND 5),
    title TEXT NOT NULL,
    topic TEXT NOT NULL,
    slow_mode_millis BIGINT NOT NULL CHECK (slow_mode_millis >= 0),
    -- Kept here because it is shown in every list; it moves with the member rows, under the same lock.
    member_count BIGINT NOT NULL CHECK (member_count >= 0),
    membership_version BIGINT NOT NULL CHECK (membership_version >= 1),
    creator_id UUID NOT NULL,
    -- What makes a retried creation find the first one, and what the first one said.
    request_id UUID,
    request_fingerprint BYTEA,
    -- The two people of a direct conversation.
    low_user_id UUID,
    high_user_id UUID,
    -- The SHA-256 of a discussion's members, until they change.
    member_set BYTEA,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    -- A deleted conversation keeps its row: a retry of the call that made it must not make another one.
    delete_time BIGINT,
    CHECK ((request_id IS NULL) = (request_fingerprint IS NULL)),
    CHECK ((kind = 1) = (low_user_id IS NOT NULL AND high_user_id IS NOT NULL)),
    CHECK (low_user_id < high_user_id)
);

-- Two who start a conversation with each other at the same moment get the same one.
CREATE UNIQUE INDEX conversations_by_pair ON conversations (low_user_id, high_user_id) WHERE low_user_id IS NOT NULL;

-- The same for a discussion with the same members.
CREATE UNIQUE INDEX conversations_by_member_set ON conversations (member_set) WHERE member_set IS NOT NULL;

-- The same for a call that is made twice.
CREATE UNIQUE INDEX conversations_by_request ON conversations (creator_id, request_id) WHERE request_id IS NOT NULL;

CREATE TABLE members (
    conversation_id UUID NOT NULL REFERENCES conversations (conversation_id),
    user_id UUID NOT NULL,
    -- The numbers of MemberRole in the contract: they rise with the rights.
    role BIGINT NOT NULL CHECK (role BETWEEN 1 AND 4),
    join_time BIGINT NOT NULL,
    PRIMARY KEY (conversation_id, user_id)
);

-- A user's own conversations, newest first.
CREATE INDEX members_by_user ON members (user_id, conversation_id);

-- A page of members, in the order of coming in.
CREATE INDEX members_by_join_time ON members (conversation_id, join_time, user_id);

-- How many owners are left: asked before one of them goes.
CREATE INDEX members_who_own ON members (conversation_id) WHERE role = 4;

CREATE TABLE bans (
    conversation_id UUID NOT NULL REFERENCES conversations (conversation_id),
    user_id UUID NOT NULL,
    banned_by_user_id UUID NOT NULL,
    reason TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    PRIMARY KEY (conversation_id, user_id)
);

-- A page of bans, oldest first.
CREATE INDEX bans_by_create_time ON bans (conversation_id, create_time, user_id);

-- Those who were muted when they went out: who comes back into a room comes back muted.
CREATE TABLE mutes (
    conversation_id UUID NOT NULL REFERENCES conversations (conversation_id),
    user_id UUID NOT NULL,
    PRIMARY KEY (conversation_id, user_id)
);

-- The version of each user's list of memberships: whoever has read the list asks for it again only when this has moved.
-- A user without a row is at version 1.
CREATE TABLE membership_lists (
    user_id UUID PRIMARY KEY,
    version BIGINT NOT NULL CHECK (version >= 1),
    -- Set when the account is deleted: from then on nobody can bring the user in anywhere.
    delete_time BIGINT
);

-- Accounts that stand for names in other systems. The primary key makes calls at the same time for one name end in one
-- account. Guests that are found again under a name have a row, too. users.kind 3 means an external account.
CREATE TABLE external_accounts (
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    user_id UUID NOT NULL REFERENCES users (user_id),
    create_time BIGINT NOT NULL,
    PRIMARY KEY (namespace, name)
);

-- Every read of a user looks for its name here, and an account has one.
CREATE UNIQUE INDEX external_accounts_user ON external_accounts (user_id);

-- An address that nobody has verified is a claim: several accounts may make it, so that making an account tells nothing
-- about others. It becomes one account's when that account verifies it.
DROP INDEX users_email_key;
CREATE UNIQUE INDEX users_verified_email ON users (email_key) WHERE email_verify_time IS NOT NULL;
-- Sign-in and codes by address.
CREATE INDEX users_claimed_email ON users (email_key, user_id) WHERE email_key IS NOT NULL;

-- Whether others find the account by its verified address. Nobody has said so of the accounts that are there already.
ALTER TABLE users ADD COLUMN found_by_email BOOLEAN NOT NULL DEFAULT FALSE;

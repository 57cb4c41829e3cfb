-- What somebody else has found out about a user: that the owner reads the e-mail address (it was proven with a code, or a
-- provider vouches for it), and that a background check found nothing. NULL when nobody has.
ALTER TABLE users ADD COLUMN email_verify_time BIGINT;
ALTER TABLE users ADD COLUMN background_check_time BIGINT;

-- Whether an address that had been verified was replaced: until the one in use is verified too, no code sent to it sets a
-- password.
ALTER TABLE users ADD COLUMN has_replaced_verified BOOLEAN NOT NULL DEFAULT FALSE;

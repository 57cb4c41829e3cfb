-- E-mail addresses that were verified with a code for signing up, before there is an account. The proof counts for the
-- network that showed the code only: otherwise another person could register the address in the meantime and get an
-- account that shows it as verified. Addresses and networks are kept as keyed sums, as in one_time_codes.
CREATE TABLE address_proofs (
    address_hash BYTEA PRIMARY KEY,
    network_hash BYTEA NOT NULL,
    expire_time BIGINT NOT NULL
);

-- The sweeper removes proofs that have expired.
CREATE INDEX address_proofs_expire ON address_proofs (expire_time);

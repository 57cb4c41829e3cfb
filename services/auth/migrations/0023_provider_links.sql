-- With which identity at which provider one signs in to which account. The provider is known by its issuer, which is
-- what its tokens say; the name is what the operator called it at the time.
CREATE TABLE provider_links (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id UUID NOT NULL REFERENCES users (user_id),
    provider TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    -- An identity opens one account, however many ask for it at once.
    PRIMARY KEY (issuer, subject)
);

-- An account has one identity at a provider.
CREATE UNIQUE INDEX provider_links_user ON provider_links (user_id, issuer);

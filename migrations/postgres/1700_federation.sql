-- Identity providers that people sign in with. `vo_id` is the home of the accounts of its people; `settings` is JSON; `sealed` is the
-- client's secret, empty once the provider has ended.
CREATE TABLE identity_provider (
    id         UUID NOT NULL PRIMARY KEY,
    vo_id      UUID NOT NULL,
    name       TEXT NOT NULL,
    issuer     TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('active', 'suspended')),
    settings   TEXT NOT NULL,
    sealed     BYTEA NOT NULL,
    version    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT
);
CREATE UNIQUE INDEX identity_provider_name ON identity_provider (name) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX identity_provider_issuer ON identity_provider (issuer) WHERE ended_at IS NULL;

-- Who somebody is at a provider: issuer and subject, and nothing else. `salt` is that of the hash which records hold. `person` is
-- absent until an administrator has approved. `attributes` is what the provider said last, as JSON.
CREATE TABLE federated_identity (
    id          UUID NOT NULL PRIMARY KEY,
    vo_id       UUID NOT NULL,
    provider    UUID NOT NULL,
    issuer      TEXT NOT NULL,
    subject     TEXT NOT NULL,
    salt        BYTEA NOT NULL,
    person      UUID,
    state       TEXT NOT NULL CHECK (state IN ('pending', 'active', 'rejected')),
    attributes  TEXT NOT NULL,
    valid_until BIGINT,
    version     BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    seen_at     BIGINT NOT NULL,
    ended_at    BIGINT
);
CREATE UNIQUE INDEX federated_identity_subject ON federated_identity (issuer, subject) WHERE ended_at IS NULL;
CREATE INDEX federated_identity_person ON federated_identity (person);
CREATE INDEX federated_identity_provider ON federated_identity (provider, id);

-- By which identity a session began.
ALTER TABLE session ADD COLUMN identity UUID;

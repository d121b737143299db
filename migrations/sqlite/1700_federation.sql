-- Identity providers that people sign in with. `vo_id` is the home of the accounts of its people; `settings` is JSON; `sealed` is the
-- client's secret, empty once the provider has ended.
CREATE TABLE identity_provider (
    id         BLOB NOT NULL PRIMARY KEY,
    vo_id      BLOB NOT NULL,
    name       TEXT NOT NULL,
    issuer     TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('active', 'suspended')),
    settings   TEXT NOT NULL,
    sealed     BLOB NOT NULL,
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
);
CREATE UNIQUE INDEX identity_provider_name ON identity_provider (name) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX identity_provider_issuer ON identity_provider (issuer) WHERE ended_at IS NULL;

-- Who somebody is at a provider: issuer and subject, and nothing else. `salt` is that of the hash which records hold. `person` is
-- absent until an administrator has approved. `attributes` is what the provider said last, as JSON.
CREATE TABLE federated_identity (
    id          BLOB NOT NULL PRIMARY KEY,
    vo_id       BLOB NOT NULL,
    provider    BLOB NOT NULL,
    issuer      TEXT NOT NULL,
    subject     TEXT NOT NULL,
    salt        BLOB NOT NULL,
    person      BLOB,
    state       TEXT NOT NULL CHECK (state IN ('pending', 'active', 'rejected')),
    attributes  TEXT NOT NULL,
    valid_until INTEGER,
    version     INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    seen_at     INTEGER NOT NULL,
    ended_at    INTEGER
);
CREATE UNIQUE INDEX federated_identity_subject ON federated_identity (issuer, subject) WHERE ended_at IS NULL;
CREATE INDEX federated_identity_person ON federated_identity (person);
CREATE INDEX federated_identity_provider ON federated_identity (provider, id);

-- By which identity a session began.
ALTER TABLE session ADD COLUMN identity BLOB;

-- Certificates by which people sign in: issuer and subject of the end entity, the very bytes (DER). No key, no certificate.
CREATE TABLE person_certificate (
    id             UUID     NOT NULL PRIMARY KEY,
    person         UUID     NOT NULL,
    vo_id          UUID     NOT NULL,
    version        BIGINT NOT NULL DEFAULT 1,
    issuer         BYTEA    NOT NULL,
    subject        BYTEA    NOT NULL,
    created_at     BIGINT NOT NULL,
    compromised_at BIGINT,
    note           TEXT,
    ended_at       BIGINT
);
-- INVARIANT: a name leads to one person.
CREATE UNIQUE INDEX person_certificate_alive ON person_certificate (subject, issuer) WHERE ended_at IS NULL;
CREATE INDEX person_certificate_person ON person_certificate (person);

-- Certificates by which people sign in: issuer and subject of the end entity, the very bytes (DER). No key, no certificate.
CREATE TABLE person_certificate (
    id             BLOB    NOT NULL PRIMARY KEY,
    person         BLOB    NOT NULL,
    vo_id          BLOB    NOT NULL,
    version        INTEGER NOT NULL DEFAULT 1,
    issuer         BLOB    NOT NULL,
    subject        BLOB    NOT NULL,
    created_at     INTEGER NOT NULL,
    compromised_at INTEGER,
    note           TEXT,
    ended_at       INTEGER
);
-- INVARIANT: a name leads to one person.
CREATE UNIQUE INDEX person_certificate_alive ON person_certificate (subject, issuer) WHERE ended_at IS NULL;
CREATE INDEX person_certificate_person ON person_certificate (person);

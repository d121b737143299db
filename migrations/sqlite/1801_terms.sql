-- Terms of use of a VO, or (under the nil id) of the gateway. A row is one version; the one without an end is in force.
CREATE TABLE terms (
    vo_id      BLOB NOT NULL,
    version    INTEGER NOT NULL,
    text       TEXT NOT NULL,
    digest     BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER,
    PRIMARY KEY (vo_id, version)
);
CREATE UNIQUE INDEX terms_alive ON terms (vo_id) WHERE ended_at IS NULL;

-- Who accepted which version, in which session and request.
CREATE TABLE acceptance (
    person  BLOB NOT NULL,
    vo_id   BLOB NOT NULL,
    version INTEGER NOT NULL,
    digest  BLOB NOT NULL,
    session BLOB NOT NULL,
    request BLOB NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (person, vo_id, version)
);

-- Terms of use of a VO, or (under the nil id) of the gateway. A row is one version; the one without an end is in force.
CREATE TABLE terms (
    vo_id      UUID NOT NULL,
    version    BIGINT NOT NULL,
    text       TEXT NOT NULL,
    digest     BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT,
    PRIMARY KEY (vo_id, version)
);
CREATE UNIQUE INDEX terms_alive ON terms (vo_id) WHERE ended_at IS NULL;

-- Who accepted which version, in which session and request.
CREATE TABLE acceptance (
    person  UUID NOT NULL,
    vo_id   UUID NOT NULL,
    version BIGINT NOT NULL,
    digest  BYTEA NOT NULL,
    session UUID NOT NULL,
    request UUID NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (person, vo_id, version)
);

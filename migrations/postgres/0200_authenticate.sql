-- One row per account; the hash is a PHC string (`$argon2id$...`), replaced in place so that old ones are not kept.
CREATE TABLE password (
    person     UUID PRIMARY KEY NOT NULL,
    vo_id      UUID NOT NULL,
    hash       TEXT NOT NULL,
    one_time   BOOLEAN NOT NULL,
    expires_at BIGINT,
    used_at    BIGINT,
    set_at     BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    ended_at   BIGINT
);

-- How often and when an account signed in, or failed to; attempts at unknown accounts stand under the nil id.
CREATE TABLE login_count (
    person       UUID PRIMARY KEY NOT NULL,
    vo_id        UUID NOT NULL,
    logins       BIGINT NOT NULL,
    last_login   BIGINT,
    failures     BIGINT NOT NULL,
    last_failure BIGINT,
    version      BIGINT NOT NULL,
    ended_at     BIGINT
);

-- Every session; the token is kept as its SHA-256 (absent for HTTP Basic, which has none).
CREATE TABLE session (
    id          UUID PRIMARY KEY NOT NULL,
    vo_id       UUID NOT NULL,
    person      UUID NOT NULL,
    kind        TEXT NOT NULL,
    parent      UUID,
    host        TEXT,
    token       BYTEA UNIQUE,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    seen_at     BIGINT NOT NULL,
    methods     TEXT NOT NULL,
    acr         TEXT NOT NULL,
    must_change BOOLEAN NOT NULL,
    version     BIGINT NOT NULL,
    ended_at    BIGINT,
    end_reason  TEXT
);

CREATE INDEX session_alive ON session (expires_at) WHERE ended_at IS NULL;
CREATE INDEX session_person ON session (person);

-- One row per account; the hash is a PHC string (`$argon2id$...`), replaced in place so that old ones are not kept.
CREATE TABLE password (
    person     BLOB PRIMARY KEY NOT NULL,
    vo_id      BLOB NOT NULL,
    hash       TEXT NOT NULL,
    one_time   BOOLEAN NOT NULL,
    expires_at INTEGER,
    used_at    INTEGER,
    set_at     INTEGER NOT NULL,
    version    INTEGER NOT NULL,
    ended_at   INTEGER
) WITHOUT ROWID;

-- How often and when an account signed in, or failed to; attempts at unknown accounts stand under the nil id.
CREATE TABLE login_count (
    person       BLOB PRIMARY KEY NOT NULL,
    vo_id        BLOB NOT NULL,
    logins       INTEGER NOT NULL,
    last_login   INTEGER,
    failures     INTEGER NOT NULL,
    last_failure INTEGER,
    version      INTEGER NOT NULL,
    ended_at     INTEGER
) WITHOUT ROWID;

-- Every session; the token is kept as its SHA-256 (absent for HTTP Basic, which has none).
CREATE TABLE session (
    id          BLOB PRIMARY KEY NOT NULL,
    vo_id       BLOB NOT NULL,
    person      BLOB NOT NULL,
    kind        TEXT NOT NULL,
    parent      BLOB,
    host        TEXT,
    token       BLOB UNIQUE,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    seen_at     INTEGER NOT NULL,
    methods     TEXT NOT NULL,
    acr         TEXT NOT NULL,
    must_change BOOLEAN NOT NULL,
    version     INTEGER NOT NULL,
    ended_at    INTEGER,
    end_reason  TEXT
) WITHOUT ROWID;

CREATE INDEX session_alive ON session (expires_at) WHERE ended_at IS NULL;
CREATE INDEX session_person ON session (person);

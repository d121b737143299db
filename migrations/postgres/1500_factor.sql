-- Second factors: the secret of a one-time password (RFC 6238), sealed; empty once the factor has ended. `last_step` is the last
-- time step of which a code was taken: no code is taken twice.
CREATE TABLE factor (
    id         UUID    NOT NULL PRIMARY KEY,
    person     UUID    NOT NULL,
    vo_id      UUID    NOT NULL,
    version    BIGINT  NOT NULL DEFAULT 1,
    kind       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    sealed     BYTEA   NOT NULL,
    last_step  BIGINT  NOT NULL,
    created_at BIGINT  NOT NULL,
    used_at    BIGINT,
    ended_at   BIGINT
);
CREATE INDEX factor_person ON factor (person);

-- Codes for the day on which the factor is lost: SHA-256 of 114 random bits, bound to the person. Each is good once.
CREATE TABLE recovery_code (
    person     UUID    NOT NULL,
    hash       BYTEA   NOT NULL,
    vo_id      UUID    NOT NULL,
    version    BIGINT  NOT NULL DEFAULT 1,
    created_at BIGINT  NOT NULL,
    used_at    BIGINT,
    ended_at   BIGINT,
    PRIMARY KEY (person, hash)
);

-- A password that is long enough beside a second factor only.
ALTER TABLE password ADD COLUMN short BOOLEAN NOT NULL DEFAULT FALSE;

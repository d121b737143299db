-- Accounts on their way: asked for (`request`), or offered (`invitation`). `code` is the SHA-256 of what the mail or the link
-- holds, good once: without it there is nothing to confirm any more. What the account's card says stands there only.
CREATE TABLE enrolment (
    id           UUID NOT NULL PRIMARY KEY,
    vo_id        UUID NOT NULL,
    version      BIGINT NOT NULL DEFAULT 1,
    kind         TEXT NOT NULL CHECK (kind IN ('request', 'invitation')),
    state        TEXT NOT NULL CHECK (state IN ('open', 'pending', 'approved', 'rejected', 'used', 'revoked')),
    code         BYTEA,
    username     TEXT,
    name         TEXT,
    mail         TEXT,
    organisation TEXT,
    said         TEXT,
    roles        TEXT NOT NULL DEFAULT '',
    roles_until  BIGINT,
    person       UUID,
    made_by      UUID,
    decided_by   UUID,
    message      TEXT,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    decided_at   BIGINT
);
CREATE UNIQUE INDEX enrolment_code ON enrolment (code) WHERE code IS NOT NULL;
CREATE INDEX enrolment_queue ON enrolment (vo_id, kind, state, id);
CREATE INDEX enrolment_person ON enrolment (person);

-- Virtual organisations that take requests for accounts.
CREATE TABLE enrolment_open (
    vo_id    UUID NOT NULL PRIMARY KEY,
    opened_at BIGINT NOT NULL
);

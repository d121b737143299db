-- Virtual organisations, people and what binds them. Nothing is deleted: rows are ended (`ended_at`), so that a trace
-- finds who somebody was. Times are microseconds since 1970 UTC.

-- The gateway level is a row of its own with the nil UUID.
CREATE TABLE vo (
    id         UUID PRIMARY KEY NOT NULL,
    name       TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('active', 'suspended')),
    version    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT
);
CREATE UNIQUE INDEX vo_name ON vo (name) WHERE ended_at IS NULL;

-- `vo_id` is the home of the account: only its administrators reset it.
CREATE TABLE person (
    id         UUID PRIMARY KEY NOT NULL,
    vo_id      UUID NOT NULL REFERENCES vo (id),
    username   TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('active', 'suspended', 'ended')),
    card       BYTEA NOT NULL,
    version    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT
);
CREATE UNIQUE INDEX person_username ON person (username) WHERE ended_at IS NULL;

-- The readable details of a person, one row per version; records hold `hash` only.
CREATE TABLE card (
    hash         BYTEA PRIMARY KEY NOT NULL,
    person       UUID NOT NULL REFERENCES person (id),
    version      BIGINT NOT NULL,
    salt         BYTEA NOT NULL,
    username     TEXT NOT NULL,
    name         TEXT NOT NULL,
    mail         TEXT,
    organisation TEXT,
    created_at   BIGINT NOT NULL,
    ended_at     BIGINT
);
CREATE UNIQUE INDEX card_version ON card (person, version);

CREATE TABLE membership (
    id         UUID PRIMARY KEY NOT NULL,
    vo_id      UUID NOT NULL REFERENCES vo (id),
    person     UUID NOT NULL REFERENCES person (id),
    version    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT
);
CREATE UNIQUE INDEX membership_person ON membership (vo_id, person) WHERE ended_at IS NULL;

CREATE TABLE role (
    id         UUID PRIMARY KEY NOT NULL,
    vo_id      UUID NOT NULL REFERENCES vo (id),
    name       TEXT NOT NULL,
    version    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT
);
CREATE UNIQUE INDEX role_name ON role (vo_id, name) WHERE ended_at IS NULL;

-- `until` is when the assignment ends by itself.
CREATE TABLE assignment (
    id         UUID PRIMARY KEY NOT NULL,
    vo_id      UUID NOT NULL REFERENCES vo (id),
    role       UUID NOT NULL REFERENCES role (id),
    person     UUID NOT NULL REFERENCES person (id),
    until      BIGINT,
    version    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT
);
CREATE UNIQUE INDEX assignment_person ON assignment (role, person) WHERE ended_at IS NULL;

-- (`grant` is a word of SQL.)
CREATE TABLE role_grant (
    id         UUID PRIMARY KEY NOT NULL,
    vo_id      UUID NOT NULL REFERENCES vo (id),
    role       UUID NOT NULL REFERENCES role (id),
    tool       TEXT NOT NULL,
    task       TEXT NOT NULL,
    condition  TEXT NOT NULL,
    version    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT
);
CREATE UNIQUE INDEX role_grant_task ON role_grant (role, tool, task, condition) WHERE ended_at IS NULL;

CREATE TABLE upstream (
    id         UUID PRIMARY KEY NOT NULL,
    vo_id      UUID NOT NULL REFERENCES vo (id),
    name       TEXT NOT NULL,
    url        TEXT NOT NULL,
    ca         TEXT,
    expected   TEXT,
    version    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT
);
CREATE UNIQUE INDEX upstream_name ON upstream (vo_id, name) WHERE ended_at IS NULL;

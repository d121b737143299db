-- Virtual organisations, people and what binds them. Nothing is deleted: rows are ended (`ended_at`), so that a trace
-- finds who somebody was. Times are microseconds since 1970 UTC.

-- The gateway level is a row of its own with the nil UUID.
CREATE TABLE vo (
    id         BLOB PRIMARY KEY NOT NULL,
    name       TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('active', 'suspended')),
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
);
CREATE UNIQUE INDEX vo_name ON vo (name) WHERE ended_at IS NULL;

-- `vo_id` is the home of the account: only its administrators reset it.
CREATE TABLE person (
    id         BLOB PRIMARY KEY NOT NULL,
    vo_id      BLOB NOT NULL REFERENCES vo (id),
    username   TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('active', 'suspended', 'ended')),
    card       BLOB NOT NULL,
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
);
CREATE UNIQUE INDEX person_username ON person (username) WHERE ended_at IS NULL;

-- The readable details of a person, one row per version; records hold `hash` only.
CREATE TABLE card (
    hash         BLOB PRIMARY KEY NOT NULL,
    person       BLOB NOT NULL REFERENCES person (id),
    version      INTEGER NOT NULL,
    salt         BLOB NOT NULL,
    username     TEXT NOT NULL,
    name         TEXT NOT NULL,
    mail         TEXT,
    organisation TEXT,
    created_at   INTEGER NOT NULL,
    ended_at     INTEGER
);
CREATE UNIQUE INDEX card_version ON card (person, version);

CREATE TABLE membership (
    id         BLOB PRIMARY KEY NOT NULL,
    vo_id      BLOB NOT NULL REFERENCES vo (id),
    person     BLOB NOT NULL REFERENCES person (id),
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
);
CREATE UNIQUE INDEX membership_person ON membership (vo_id, person) WHERE ended_at IS NULL;

CREATE TABLE role (
    id         BLOB PRIMARY KEY NOT NULL,
    vo_id      BLOB NOT NULL REFERENCES vo (id),
    name       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
);
CREATE UNIQUE INDEX role_name ON role (vo_id, name) WHERE ended_at IS NULL;

-- `until` is when the assignment ends by itself.
CREATE TABLE assignment (
    id         BLOB PRIMARY KEY NOT NULL,
    vo_id      BLOB NOT NULL REFERENCES vo (id),
    role       BLOB NOT NULL REFERENCES role (id),
    person     BLOB NOT NULL REFERENCES person (id),
    until      INTEGER,
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
);
CREATE UNIQUE INDEX assignment_person ON assignment (role, person) WHERE ended_at IS NULL;

-- (`grant` is a word of SQL.)
CREATE TABLE role_grant (
    id         BLOB PRIMARY KEY NOT NULL,
    vo_id      BLOB NOT NULL REFERENCES vo (id),
    role       BLOB NOT NULL REFERENCES role (id),
    tool       TEXT NOT NULL,
    task       TEXT NOT NULL,
    condition  TEXT NOT NULL,
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
);
CREATE UNIQUE INDEX role_grant_task ON role_grant (role, tool, task, condition) WHERE ended_at IS NULL;

CREATE TABLE upstream (
    id         BLOB PRIMARY KEY NOT NULL,
    vo_id      BLOB NOT NULL REFERENCES vo (id),
    name       TEXT NOT NULL,
    url        TEXT NOT NULL,
    ca         TEXT,
    expected   TEXT,
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
);
CREATE UNIQUE INDEX upstream_name ON upstream (vo_id, name) WHERE ended_at IS NULL;

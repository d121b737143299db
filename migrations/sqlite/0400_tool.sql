-- Registrations of tools. A row is one version of a manifest; the one without an end is the one in force.
CREATE TABLE tool (
    id         BLOB NOT NULL,
    version    INTEGER NOT NULL,
    vo_id      BLOB NOT NULL,
    name       TEXT NOT NULL,
    manifest   TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER,
    PRIMARY KEY (id, version)
);
CREATE UNIQUE INDEX tool_name ON tool (vo_id, name) WHERE ended_at IS NULL;

-- Host names of tools; one host is one tool's, over all VOs.
CREATE TABLE tool_host (
    host     TEXT NOT NULL,
    tool_id  BLOB NOT NULL,
    vo_id    BLOB NOT NULL,
    version  INTEGER NOT NULL,
    ended_at INTEGER
);
CREATE UNIQUE INDEX tool_host_name ON tool_host (host) WHERE ended_at IS NULL;
CREATE INDEX tool_host_tool ON tool_host (tool_id);

-- Who made what. A row is one use (generation) of the tool's own id; the one without an end is alive.
CREATE TABLE resource (
    vo_id           BLOB NOT NULL,
    tool            TEXT NOT NULL,
    kind            TEXT NOT NULL,
    id              TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    version         INTEGER NOT NULL,
    owner           BLOB,
    parent_kind     TEXT,
    parent_id       TEXT,
    attributes      TEXT NOT NULL,
    created_request BLOB NOT NULL,
    created_at      INTEGER NOT NULL,
    ended_request   BLOB,
    ended_at        INTEGER,
    PRIMARY KEY (vo_id, tool, kind, id, generation)
);
CREATE UNIQUE INDEX resource_alive ON resource (vo_id, tool, kind, id) WHERE ended_at IS NULL;
CREATE INDEX resource_owner ON resource (owner, vo_id) WHERE ended_at IS NULL;
CREATE INDEX resource_parent ON resource (vo_id, tool, parent_kind, parent_id) WHERE ended_at IS NULL;

-- Proxies that computing elements keep for jobs (`renew`), until nothing lives by them any more. Never a key.
CREATE TABLE lent_proxy (
    vo_id      BLOB NOT NULL,
    tool       TEXT NOT NULL,
    id         TEXT NOT NULL,
    version    INTEGER NOT NULL,
    person     BLOB NOT NULL,
    session    BLOB NOT NULL,
    not_after  INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    failures   INTEGER NOT NULL,
    refused    TEXT,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER,
    PRIMARY KEY (vo_id, tool, id)
);
CREATE INDEX lent_proxy_due ON lent_proxy (due_at) WHERE ended_at IS NULL;

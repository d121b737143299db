-- Proxies that computing elements keep for jobs (`renew`), until nothing lives by them any more. Never a key.
CREATE TABLE lent_proxy (
    vo_id      UUID NOT NULL,
    tool       TEXT NOT NULL,
    id         TEXT NOT NULL,
    version    BIGINT NOT NULL,
    person     UUID NOT NULL,
    session    UUID NOT NULL,
    not_after  BIGINT NOT NULL,
    due_at     BIGINT NOT NULL,
    failures   BIGINT NOT NULL,
    refused    TEXT,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT,
    PRIMARY KEY (vo_id, tool, id)
);
CREATE INDEX lent_proxy_due ON lent_proxy (due_at) WHERE ended_at IS NULL;

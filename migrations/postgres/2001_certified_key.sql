-- Keys of others that were certified (SHA-256), and for whom: one key, one person.
CREATE TABLE certified_key (
    spki       BYTEA NOT NULL PRIMARY KEY,
    vo_id      UUID NOT NULL,
    version    BIGINT NOT NULL,
    person     UUID NOT NULL,
    request    UUID NOT NULL,
    created_at BIGINT NOT NULL
);

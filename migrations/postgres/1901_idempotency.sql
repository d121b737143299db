-- What was asked under an `Idempotency-Key`, for a day: SHA-256 of the key and of the request, and the answer where it may be told
-- again. Without a status it is under way, or was when the gateway ended; `applied` then says whether it came to anything.
CREATE TABLE idempotency (
    person     UUID NOT NULL,
    key        BYTEA NOT NULL,
    vo_id      UUID NOT NULL,
    asked      BYTEA NOT NULL,
    request    UUID NOT NULL,
    status     BIGINT,
    answer     TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (person, key)
);
CREATE INDEX idempotency_created ON idempotency (created_at);

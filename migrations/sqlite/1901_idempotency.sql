-- What was asked under an `Idempotency-Key`, for a day: SHA-256 of the key and of the request, and the answer where it may be told
-- again. Without a status it is under way, or was when the gateway ended; `applied` then says whether it came to anything.
CREATE TABLE idempotency (
    person     BLOB NOT NULL,
    key        BLOB NOT NULL,
    vo_id      BLOB NOT NULL,
    asked      BLOB NOT NULL,
    request    BLOB NOT NULL,
    status     INTEGER,
    answer     TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (person, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_created ON idempotency (created_at);

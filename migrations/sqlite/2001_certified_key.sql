-- Keys of others that were certified (SHA-256), and for whom: one key, one person.
CREATE TABLE certified_key (
    spki       BLOB NOT NULL PRIMARY KEY,
    vo_id      BLOB NOT NULL,
    version    INTEGER NOT NULL,
    person     BLOB NOT NULL,
    request    BLOB NOT NULL,
    created_at INTEGER NOT NULL
);

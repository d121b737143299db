-- Why a proxy was revoked (`revoked`, `compromised`, `suspended`), and what was noted then.
ALTER TABLE proxy ADD COLUMN why TEXT;
ALTER TABLE proxy ADD COLUMN note TEXT;

-- The last revocation list of each VO certificate, as it was signed; `digest` is that of what it says.
CREATE TABLE revocation_list (
    issuer  BLOB    NOT NULL PRIMARY KEY,
    vo_id   BLOB    NOT NULL,
    number  INTEGER NOT NULL,
    made_at INTEGER NOT NULL,
    due_at  INTEGER NOT NULL,
    digest  BLOB    NOT NULL,
    list    BLOB    NOT NULL
);

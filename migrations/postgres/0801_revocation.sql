-- Why a proxy was revoked (`revoked`, `compromised`, `suspended`), and what was noted then.
ALTER TABLE proxy ADD COLUMN why TEXT;
ALTER TABLE proxy ADD COLUMN note TEXT;

-- The last revocation list of each VO certificate, as it was signed; `digest` is that of what it says.
CREATE TABLE revocation_list (
    issuer  BYTEA  NOT NULL PRIMARY KEY,
    vo_id   UUID   NOT NULL,
    number  BIGINT NOT NULL,
    made_at BIGINT NOT NULL,
    due_at  BIGINT NOT NULL,
    digest  BYTEA  NOT NULL,
    list    BYTEA  NOT NULL
);

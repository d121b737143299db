-- What was shown of the proxy that a case is about, and so what is proved.
ALTER TABLE trace_case ADD COLUMN shown TEXT NOT NULL DEFAULT '';
CREATE INDEX trace_case_vo ON trace_case (vo_id, id);
CREATE INDEX trace_case_provider ON trace_case (provider, state);

-- SHA-256 of the public key that was linked, or signed in last.
ALTER TABLE person_certificate ADD COLUMN spki BLOB;

-- Certificates that were marked as compromised: they let nobody in, whoever they are linked to, until somebody ends that. Hashes
-- of names and public key; `id` is that of the link on which the mark was set.
CREATE TABLE compromised_certificate (
    id         BLOB NOT NULL PRIMARY KEY,
    vo_id      BLOB NOT NULL,
    version    INTEGER NOT NULL DEFAULT 1,
    names      BLOB NOT NULL,
    spki       BLOB,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
);
CREATE INDEX compromised_certificate_names ON compromised_certificate (names) WHERE ended_at IS NULL;
CREATE INDEX compromised_certificate_spki ON compromised_certificate (spki) WHERE ended_at IS NULL;

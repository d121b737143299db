-- What was shown of the proxy that a case is about, and so what is proved.
ALTER TABLE trace_case ADD COLUMN shown TEXT NOT NULL DEFAULT '';
CREATE INDEX trace_case_vo ON trace_case (vo_id, id);
CREATE INDEX trace_case_provider ON trace_case (provider, state);

-- SHA-256 of the public key that was linked, or signed in last.
ALTER TABLE person_certificate ADD COLUMN spki BYTEA;

-- Certificates that were marked as compromised: they let nobody in, whoever they are linked to, until somebody ends that. Hashes
-- of names and public key; `id` is that of the link on which the mark was set.
CREATE TABLE compromised_certificate (
    id         UUID NOT NULL PRIMARY KEY,
    vo_id      UUID NOT NULL,
    version    BIGINT NOT NULL DEFAULT 1,
    names      BYTEA NOT NULL,
    spki       BYTEA,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT
);
CREATE INDEX compromised_certificate_names ON compromised_certificate (names) WHERE ended_at IS NULL;
CREATE INDEX compromised_certificate_spki ON compromised_certificate (spki) WHERE ended_at IS NULL;

-- What a virtual organisation lets the providers of a tool see of a trace: at once, or as a case that it answers itself.
CREATE TABLE provider_choice (
    vo_id       UUID   NOT NULL,
    tool        TEXT   NOT NULL,
    version     BIGINT NOT NULL,
    answer      TEXT   NOT NULL CHECK (answer IN ('at-once', 'case')),
    shows       TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    ended_at    BIGINT,
    PRIMARY KEY (vo_id, tool, version)
);
CREATE UNIQUE INDEX provider_choice_alive ON provider_choice (vo_id, tool) WHERE ended_at IS NULL;

-- A provider's question about a proxy. `person` is whose proxy it is, `provider` who asks. `shows` and `text` are the answer.
CREATE TABLE trace_case (
    id          UUID   NOT NULL PRIMARY KEY,
    vo_id       UUID   NOT NULL,
    version     BIGINT NOT NULL,
    tool        TEXT   NOT NULL,
    provider    UUID   NOT NULL,
    person      UUID   NOT NULL,
    request     UUID   NOT NULL,
    issuer      BYTEA  NOT NULL,
    serial      BIGINT NOT NULL,
    note        TEXT,
    state       TEXT   NOT NULL CHECK (state IN ('open', 'answered', 'declined')),
    shows       TEXT   NOT NULL,
    text        TEXT,
    answered_by UUID,
    answered_at BIGINT,
    created_at  BIGINT NOT NULL,
    ended_at    BIGINT
);
CREATE INDEX trace_case_tool ON trace_case (vo_id, tool, created_at);
CREATE INDEX trace_case_person ON trace_case (person);

-- What a virtual organisation lets the providers of a tool see of a trace: at once, or as a case that it answers itself.
CREATE TABLE provider_choice (
    vo_id      BLOB    NOT NULL,
    tool       TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    answer     TEXT    NOT NULL CHECK (answer IN ('at-once', 'case')),
    shows      TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER,
    PRIMARY KEY (vo_id, tool, version)
);
CREATE UNIQUE INDEX provider_choice_alive ON provider_choice (vo_id, tool) WHERE ended_at IS NULL;

-- A provider's question about a proxy. `person` is whose proxy it is, `provider` who asks. `shows` and `text` are the answer.
CREATE TABLE trace_case (
    id          BLOB    NOT NULL PRIMARY KEY,
    vo_id       BLOB    NOT NULL,
    version     INTEGER NOT NULL,
    tool        TEXT    NOT NULL,
    provider    BLOB    NOT NULL,
    person      BLOB    NOT NULL,
    request     BLOB    NOT NULL,
    issuer      BLOB    NOT NULL,
    serial      INTEGER NOT NULL,
    note        TEXT,
    state       TEXT    NOT NULL CHECK (state IN ('open', 'answered', 'declined')),
    shows       TEXT    NOT NULL,
    text        TEXT,
    answered_by BLOB,
    answered_at INTEGER,
    created_at  INTEGER NOT NULL,
    ended_at    INTEGER
);
CREATE INDEX trace_case_tool ON trace_case (vo_id, tool, created_at);
CREATE INDEX trace_case_person ON trace_case (person);

-- VO certificates: the key is an envelope bound to VO and certificate; the chain is PEM, its own first.
CREATE TABLE vo_certificate (
    id         UUID    NOT NULL PRIMARY KEY,
    vo_id      UUID    NOT NULL,
    version    BIGINT  NOT NULL DEFAULT 1,
    sha256     BYTEA    NOT NULL,
    chain      TEXT    NOT NULL,
    sealed_key BYTEA   NOT NULL,
    created_at BIGINT  NOT NULL,
    ended_at   BIGINT 
);
CREATE UNIQUE INDEX vo_certificate_alive ON vo_certificate (vo_id) WHERE ended_at IS NULL;

-- Proxy -> person: an index of the log's `mint` and outcome records. Never a private key.
CREATE TABLE proxy (
    issuer      BYTEA    NOT NULL,
    serial      BIGINT  NOT NULL,
    spki        BYTEA    NOT NULL,
    certificate BYTEA,
    subject     TEXT,
    vo_id       UUID    NOT NULL,
    version     BIGINT  NOT NULL DEFAULT 1,
    person      UUID    NOT NULL,
    card        BYTEA    NOT NULL,
    session     UUID    NOT NULL,
    request     UUID    NOT NULL,
    tool        TEXT    NOT NULL,
    way         TEXT    NOT NULL,
    not_before  BIGINT  NOT NULL,
    not_after   BIGINT  NOT NULL,
    ended_at    BIGINT ,
    PRIMARY KEY (issuer, serial)
);
CREATE INDEX proxy_serial ON proxy (serial);
CREATE INDEX proxy_spki ON proxy (spki);
CREATE INDEX proxy_certificate ON proxy (certificate);
CREATE INDEX proxy_person ON proxy (person, not_after);

-- Credentials of legacy tools: the header's value, in an envelope bound to VO and tool.
CREATE TABLE static_credential (
    vo_id      UUID    NOT NULL,
    tool       TEXT    NOT NULL,
    version    BIGINT  NOT NULL,
    sealed     BYTEA    NOT NULL,
    created_at BIGINT  NOT NULL,
    ended_at   BIGINT ,
    PRIMARY KEY (vo_id, tool, version)
);
CREATE UNIQUE INDEX static_credential_alive ON static_credential (vo_id, tool) WHERE ended_at IS NULL;

-- Keys that sign assertions: the public half for the JWKS, the private one in an envelope.
CREATE TABLE assertion_key (
    kid        TEXT    NOT NULL PRIMARY KEY,
    vo_id      UUID    NOT NULL,
    version    BIGINT  NOT NULL DEFAULT 1,
    public     BYTEA    NOT NULL,
    sealed     BYTEA    NOT NULL,
    created_at BIGINT  NOT NULL,
    ended_at   BIGINT 
);

-- VO certificates: the key is an envelope bound to VO and certificate; the chain is PEM, its own first.
CREATE TABLE vo_certificate (
    id         BLOB    NOT NULL PRIMARY KEY,
    vo_id      BLOB    NOT NULL,
    version    INTEGER NOT NULL DEFAULT 1,
    sha256     BLOB    NOT NULL,
    chain      TEXT    NOT NULL,
    sealed_key BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
);
CREATE UNIQUE INDEX vo_certificate_alive ON vo_certificate (vo_id) WHERE ended_at IS NULL;

-- Proxy -> person: an index of the log's `mint` and outcome records. Never a private key.
CREATE TABLE proxy (
    issuer      BLOB    NOT NULL,
    serial      INTEGER NOT NULL,
    spki        BLOB    NOT NULL,
    certificate BLOB,
    subject     TEXT,
    vo_id       BLOB    NOT NULL,
    version     INTEGER NOT NULL DEFAULT 1,
    person      BLOB    NOT NULL,
    card        BLOB    NOT NULL,
    session     BLOB    NOT NULL,
    request     BLOB    NOT NULL,
    tool        TEXT    NOT NULL,
    way         TEXT    NOT NULL,
    not_before  INTEGER NOT NULL,
    not_after   INTEGER NOT NULL,
    ended_at    INTEGER,
    PRIMARY KEY (issuer, serial)
);
CREATE INDEX proxy_serial ON proxy (serial);
CREATE INDEX proxy_spki ON proxy (spki);
CREATE INDEX proxy_certificate ON proxy (certificate);
CREATE INDEX proxy_person ON proxy (person, not_after);

-- Credentials of legacy tools: the header's value, in an envelope bound to VO and tool.
CREATE TABLE static_credential (
    vo_id      BLOB    NOT NULL,
    tool       TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    sealed     BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER,
    PRIMARY KEY (vo_id, tool, version)
);
CREATE UNIQUE INDEX static_credential_alive ON static_credential (vo_id, tool) WHERE ended_at IS NULL;

-- Keys that sign assertions: the public half for the JWKS, the private one in an envelope.
CREATE TABLE assertion_key (
    kid        TEXT    NOT NULL PRIMARY KEY,
    vo_id      BLOB    NOT NULL,
    version    INTEGER NOT NULL DEFAULT 1,
    public     BLOB    NOT NULL,
    sealed     BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
);

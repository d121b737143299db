-- What was put on MyProxy servers for requests, until it is removed from there. Never a pass phrase.
CREATE TABLE myproxy_upload (
    username   TEXT    NOT NULL PRIMARY KEY,
    vo_id      UUID    NOT NULL,
    version    BIGINT  NOT NULL DEFAULT 1,
    upstream   TEXT    NOT NULL,
    request    UUID    NOT NULL,
    not_after  BIGINT  NOT NULL,
    created_at BIGINT  NOT NULL,
    ended_at   BIGINT 
);

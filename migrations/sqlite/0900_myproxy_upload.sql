-- What was put on MyProxy servers for requests, until it is removed from there. Never a pass phrase.
CREATE TABLE myproxy_upload (
    username   TEXT    NOT NULL PRIMARY KEY,
    vo_id      BLOB    NOT NULL,
    version    INTEGER NOT NULL DEFAULT 1,
    upstream   TEXT    NOT NULL,
    request    BLOB    NOT NULL,
    not_after  INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER
);

-- Repeated denials and the mails they lead to. Times are microseconds since 1970 UTC.

-- One row per VO, taken first by whoever counts or mails for it: counts and limits of one VO never race.
CREATE TABLE alert_turn (
    vo_id    BLOB PRIMARY KEY NOT NULL,
    version  INTEGER NOT NULL,
    ended_at INTEGER
);

-- Denials that count, until they are too old to matter; the audit log holds them for good.
CREATE TABLE alert_denial (
    request   BLOB PRIMARY KEY NOT NULL,
    vo_id     BLOB NOT NULL,
    person    BLOB NOT NULL,
    tool      TEXT NOT NULL,
    task      TEXT NOT NULL,
    at        INTEGER NOT NULL,
    episode   BLOB,
    version   INTEGER NOT NULL,
    ended_at  INTEGER
);
CREATE INDEX alert_denial_key ON alert_denial (vo_id, person, tool, task, at);
CREATE INDEX alert_denial_at ON alert_denial (at);
CREATE INDEX alert_denial_episode ON alert_denial (episode);

-- `mail`: due (not mailed yet), digest (waits for the next digest), mailed.
CREATE TABLE alert_episode (
    id         BLOB PRIMARY KEY NOT NULL,
    vo_id      BLOB NOT NULL,
    vo_name    TEXT NOT NULL,
    person     BLOB NOT NULL,
    tool       TEXT NOT NULL,
    task       TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    last_at    INTEGER NOT NULL,
    count      INTEGER NOT NULL,
    mail       TEXT NOT NULL CHECK (mail IN ('due', 'digest', 'mailed')),
    version    INTEGER NOT NULL,
    ended_at   INTEGER
);
CREATE UNIQUE INDEX alert_episode_open ON alert_episode (vo_id, person, tool, task) WHERE ended_at IS NULL;
CREATE INDEX alert_episode_mail ON alert_episode (mail) WHERE mail <> 'mailed';

-- A mail, whoever gets it. `kind`: alert, digest, note (of the gateway to its administrators), other.
CREATE TABLE mail (
    id       BLOB PRIMARY KEY NOT NULL,
    vo_id    BLOB NOT NULL,
    kind     TEXT NOT NULL,
    subject  TEXT NOT NULL,
    body     TEXT NOT NULL,
    at       INTEGER NOT NULL,
    version  INTEGER NOT NULL,
    ended_at INTEGER
);
CREATE INDEX mail_limit ON mail (vo_id, kind, at);

-- The outbox: one row for each recipient of a mail.
CREATE TABLE delivery (
    id        BLOB PRIMARY KEY NOT NULL,
    vo_id     BLOB NOT NULL,
    mail      BLOB NOT NULL REFERENCES mail (id),
    recipient TEXT NOT NULL,
    state     TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'failed')),
    attempts  INTEGER NOT NULL,
    next_at   INTEGER NOT NULL,
    error     TEXT,
    version   INTEGER NOT NULL,
    ended_at  INTEGER
);
CREATE INDEX delivery_pending ON delivery (next_at) WHERE state = 'pending';

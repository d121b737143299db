-- What the proxies below a VO certificate are for: `tools`, or `download` by people. One alive for each.
ALTER TABLE vo_certificate ADD COLUMN purpose TEXT NOT NULL DEFAULT 'tools';
DROP INDEX vo_certificate_alive;
CREATE UNIQUE INDEX vo_certificate_alive ON vo_certificate (vo_id, purpose) WHERE ended_at IS NULL;
-- Of how many days before its end the VO's administrators were told last.
ALTER TABLE vo_certificate ADD COLUMN told_days INTEGER;

-- The longest life of a proxy in a VO, or (where `role` is not the nil UUID) of one of a role's holders.
CREATE TABLE proxy_limit (
    vo_id   BLOB NOT NULL,
    role    BLOB NOT NULL,
    version INTEGER NOT NULL,
    seconds INTEGER NOT NULL,
    PRIMARY KEY (vo_id, role)
);

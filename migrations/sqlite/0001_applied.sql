-- Which requests' changes of state were committed (audit log leads, SQL follows).
CREATE TABLE applied (
    request BLOB PRIMARY KEY NOT NULL,
    at      INTEGER NOT NULL
) WITHOUT ROWID;

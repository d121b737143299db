-- What the proxies of a VO say of their person to whoever reads them, by the VO's own choice: nothing (as without a row), her id,
-- or her user name too.
CREATE TABLE proxy_identity (
    vo_id   BLOB NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    tells   TEXT NOT NULL CHECK (tells IN ('opaque', 'id', 'username'))
);

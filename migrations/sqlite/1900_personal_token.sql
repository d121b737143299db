-- What a personal access token is called and is for (JSON). Everything else of it is its session, of the kind `personal`; a row
-- never changes, and ends with its session.
CREATE TABLE personal_token (
    session BLOB PRIMARY KEY NOT NULL,
    vo_id   BLOB NOT NULL,
    person  BLOB NOT NULL,
    name    TEXT NOT NULL,
    scope   TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX personal_token_person ON personal_token (person);

-- Codes of an authenticator that were tried since the last right one, and of how many of them the person is still to be told.
ALTER TABLE login_count ADD COLUMN wrong_codes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE login_count ADD COLUMN untold_codes INTEGER NOT NULL DEFAULT 0;
CREATE INDEX login_count_untold ON login_count (untold_codes) WHERE untold_codes > 0;

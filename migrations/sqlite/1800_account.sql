-- Why somebody does not get in who is neither suspended nor gone (`pending`, `rejected`, `expired`; `state` is `suspended` then),
-- and when the account expires by itself.
ALTER TABLE person ADD COLUMN standing TEXT CHECK (standing IN ('pending', 'rejected', 'expired'));
ALTER TABLE person ADD COLUMN until INTEGER;

-- Others may know the password: it opens nothing but the choice of another one.
ALTER TABLE password ADD COLUMN flagged BOOLEAN NOT NULL DEFAULT FALSE;

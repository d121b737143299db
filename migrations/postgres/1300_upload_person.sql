-- Whose proxy was put on a MyProxy server: one person may have so many there at once.
ALTER TABLE myproxy_upload ADD COLUMN person UUID;

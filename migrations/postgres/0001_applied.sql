-- Which requests' changes of state were committed (audit log leads, SQL follows).
CREATE TABLE applied (
    request UUID PRIMARY KEY NOT NULL,
    at      BIGINT NOT NULL
);

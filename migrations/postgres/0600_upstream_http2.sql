-- Whether an upstream is spoken to in HTTP/2 (1) or HTTP/1.1 (0).
ALTER TABLE upstream ADD COLUMN http2 BIGINT NOT NULL DEFAULT 0;

-- What a VO may grant at all, by the word of whoever gave it the resource: over one of its upstreams, one of its tools, or all of
-- them (then `name` is empty). `kinds` and `tasks` are JSON lists; a grant of a task that is in neither does not hold. Without a
-- row there is no ceiling.
CREATE TABLE ceiling (
    id         UUID PRIMARY KEY NOT NULL,
    vo_id      UUID NOT NULL REFERENCES vo (id),
    scope      TEXT NOT NULL CHECK (scope IN ('all', 'upstream', 'tool')),
    name       TEXT NOT NULL,
    kinds      TEXT NOT NULL,
    tasks      TEXT NOT NULL,
    version    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT
);
CREATE UNIQUE INDEX ceiling_scope ON ceiling (vo_id, scope, name) WHERE ended_at IS NULL;

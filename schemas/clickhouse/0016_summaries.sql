-- What stands for ten interactions of a conversation once they are no longer shown as they were said: made ahead of that,
-- beside the store, by the fold that hosts use. `kind` and `maker` say how, so that it can be made again and compared;
-- `members` are the interactions that it stands for, and `origins` those that each line is taken from. What is made again,
-- because an interaction was revoked, takes the place of what was there. appended_at is when it was made.

CREATE TABLE IF NOT EXISTS pointsman.conversation_summaries
(
    tenant String,
    agent_id LowCardinality(String),
    conversation_id String,
    first Int64,
    last Int64,
    kind LowCardinality(String),
    maker LowCardinality(String),
    ordinals Array(Int64),
    members Array(String),
    lines Array(String),
    origins Array(String),
    tokens Int64,
    appended_at DateTime64(3, 'UTC'),
    version UInt64 MATERIALIZED toUnixTimestamp64Milli(appended_at)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant, agent_id, conversation_id, first, kind, maker)
SETTINGS index_granularity = 1024, min_free_disk_bytes_to_perform_insert = 33554432;

-- Nothing derived shows what was revoked, from the moment in which the history knows of it: what is not made again yet is
-- not shown.
CREATE VIEW IF NOT EXISTS pointsman.summaries AS
SELECT
    tenant, agent_id, conversation_id, first, last, kind, maker, ordinals, members, lines, origins, tokens,
    arrayStringConcat(lines, '\n') AS text, appended_at AS made_at
FROM pointsman.conversation_summaries FINAL
WHERE NOT hasAny(
    members, (SELECT groupUniqArrayArray(interactions) FROM pointsman.memory_directives_log WHERE kind = 'REVOKE'));

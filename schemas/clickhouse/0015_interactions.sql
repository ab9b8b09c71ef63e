-- One conversation of one agent in one range of a primary key: what memory is rebuilt from where it is not at hand.
--
-- Both tables are copies, row by row, of what other tables hold under another key; nothing is added up at an insert, so
-- a block that comes twice folds here as it does there. What has no conversation, and outcomes that nobody counts
-- (0012), is not copied. Claims (0005) are, with no tenant and no conversation: they tell what a fenced host wrote, and
-- are in the same part as what stands behind them. Granules are small, for a memory is about a hundred rows.
--
-- The projection says how far each agent's log has been read. It is part of the same parts as the rows, so whoever sees
-- its offset sees all rows before it. A repeated row does not change a maximum.

CREATE TABLE IF NOT EXISTS pointsman.conversation_outcomes_log
(
    tenant String,
    agent_id LowCardinality(String),
    conversation_id String,
    ordinal Int64,
    event_id String,
    task_id String,
    attempt Int32,
    stage LowCardinality(String),
    kind LowCardinality(String),
    epoch Int64,
    answer Nullable(String),
    tool_calls Nullable(String),
    facts Array(String),
    error Nullable(String),
    cause_id Nullable(String),
    started_at DateTime64(6, 'UTC'),
    finished_at DateTime64(6, 'UTC'),
    tokens_in Int64,
    tokens_out Int64,
    cost_microusd Int64,
    agent_version LowCardinality(String),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    appended_at DateTime64(3, 'UTC'),
    version UInt64 MATERIALIZED bitNot(toUInt64(offset)),
    PROJECTION through (SELECT topic, partition, max(offset) GROUP BY topic, partition)
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant, agent_id, conversation_id, ordinal, event_id)
SETTINGS index_granularity = 1024, deduplicate_merge_projection_mode = 'rebuild',
    min_bytes_for_wide_part = 134217728, merge_selector_base = 100, min_free_disk_bytes_to_perform_insert = 33554432;

CREATE TABLE IF NOT EXISTS pointsman.conversation_tasks_log
(
    tenant String,
    conversation_id String,
    task_id String,
    text String,
    labels Map(String, String),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    appended_at DateTime64(3, 'UTC'),
    version UInt64 MATERIALIZED bitNot(toUInt64(offset))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant, conversation_id, task_id)
SETTINGS index_granularity = 1024,
    min_bytes_for_wide_part = 134217728, merge_selector_base = 100, min_free_disk_bytes_to_perform_insert = 33554432;

CREATE MATERIALIZED VIEW IF NOT EXISTS pointsman.conversation_outcomes_copy TO pointsman.conversation_outcomes_log AS
SELECT
    tenant, agent_id, ifNull(conversation_id, '') AS conversation_id, ordinal, event_id, task_id, attempt, stage, kind,
    epoch, answer, tool_calls, facts, error, cause_id, started_at, finished_at, tokens_in, tokens_out, cost_microusd,
    agent_version, topic, partition, offset, appended_at
FROM pointsman.agent_events_log
WHERE (ordinal > 0 AND conversation_id IS NOT NULL AND kind IN ('COMPLETED', 'FAILED', 'REFUSED'))
    OR (tenant = '' AND task_id = '' AND kind = 'NOTE' AND reason = 'CLAIMED');

CREATE MATERIALIZED VIEW IF NOT EXISTS pointsman.conversation_tasks_copy TO pointsman.conversation_tasks_log AS
SELECT
    tenant, assumeNotNull(conversation_id) AS conversation_id, task_id, text, labels, topic, partition, offset, appended_at
FROM pointsman.tasks_log
WHERE conversation_id IS NOT NULL;

-- What was there before, and what a dropped table held: repeats fold.
INSERT INTO pointsman.conversation_outcomes_log
    (tenant, agent_id, conversation_id, ordinal, event_id, task_id, attempt, stage, kind, epoch, answer, tool_calls, facts,
    error, cause_id, started_at, finished_at, tokens_in, tokens_out, cost_microusd, agent_version, topic, partition, offset,
    appended_at)
SELECT
    tenant, agent_id, ifNull(conversation_id, ''), ordinal, event_id, task_id, attempt, stage, kind, epoch, answer,
    tool_calls, facts, error, cause_id, started_at, finished_at, tokens_in, tokens_out, cost_microusd, agent_version, topic,
    partition, offset, appended_at
FROM pointsman.agent_events_log
WHERE (ordinal > 0 AND conversation_id IS NOT NULL AND kind IN ('COMPLETED', 'FAILED', 'REFUSED'))
    OR (tenant = '' AND task_id = '' AND kind = 'NOTE' AND reason = 'CLAIMED')
SETTINGS max_execution_time = 0;

INSERT INTO pointsman.conversation_tasks_log
    (tenant, conversation_id, task_id, text, labels, topic, partition, offset, appended_at)
SELECT tenant, assumeNotNull(conversation_id), task_id, text, labels, topic, partition, offset, appended_at
FROM pointsman.tasks_log
WHERE conversation_id IS NOT NULL
SETTINGS max_execution_time = 0;

-- For people: ask for a tenant, an agent and a conversation. Where hosts of two epochs wrote the same ordinal, the newer
-- epoch counts; what a fenced host wrote is here, too (see fenced_events).
CREATE VIEW IF NOT EXISTS pointsman.interactions AS
SELECT
    o.tenant AS tenant, o.agent_id AS agent_id, o.conversation_id AS conversation_id, o.ordinal AS ordinal,
    o.epoch AS epoch, o.task_id AS task_id, o.attempt AS attempt, o.stage AS stage, o.kind AS status, t.text AS asked,
    o.answer AS answer, o.tool_calls AS tool_calls, o.facts AS facts, o.error AS error, o.cause_id AS cause_id,
    t.labels AS labels, o.started_at AS started_at, o.finished_at AS finished_at, o.tokens_in AS tokens_in,
    o.tokens_out AS tokens_out, o.cost_microusd AS cost_microusd, o.agent_version AS agent_version,
    o.event_id AS event_id, o.topic AS topic, o.partition AS partition, o.offset AS offset
FROM (SELECT * FROM pointsman.conversation_outcomes_log FINAL WHERE ordinal > 0) AS o
LEFT JOIN (SELECT * FROM pointsman.conversation_tasks_log FINAL) AS t
    ON t.tenant = o.tenant AND t.conversation_id = o.conversation_id AND t.task_id = o.task_id;

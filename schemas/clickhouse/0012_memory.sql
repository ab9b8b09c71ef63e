-- What memory needs of an agent's log: which interaction of its conversation an outcome is (0: nobody counts), and the
-- calls of tools that led to it, as JSON.
ALTER TABLE pointsman.agent_events_log ADD COLUMN IF NOT EXISTS ordinal Int64 AFTER drift;
ALTER TABLE pointsman.agent_events_log ADD COLUMN IF NOT EXISTS tool_calls Nullable(String) AFTER ordinal;
CREATE OR REPLACE VIEW pointsman.agent_events AS SELECT * FROM pointsman.agent_events_log FINAL;

-- What people said about the memory of agents: instructions, pinned and unpinned facts, revocations. tenant and
-- conversation_id are empty where none is meant. Each word is a fact of its own; the latest on an id counts.
CREATE TABLE IF NOT EXISTS pointsman.memory_directives_log
(
    kind LowCardinality(String),
    id String,
    agent_id LowCardinality(String),
    tenant String,
    conversation_id String,
    text Nullable(String),
    interactions Array(String),
    reason String,
    by String,
    at DateTime64(6, 'UTC'),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    appended_at DateTime64(3, 'UTC'),
    version UInt64 MATERIALIZED bitNot(toUInt64(offset))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (agent_id, tenant, conversation_id, id, partition, offset)
SETTINGS min_bytes_for_wide_part = 134217728, merge_selector_base = 100, min_free_disk_bytes_to_perform_insert = 33554432;

CREATE VIEW IF NOT EXISTS pointsman.memory_directives AS SELECT * FROM pointsman.memory_directives_log FINAL;

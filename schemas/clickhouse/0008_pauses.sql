-- What the whole fleet was told to read no more, and to read again. scope is topic:NAME.
CREATE TABLE IF NOT EXISTS pointsman.pause_states_log
(
    scope String,
    paused Bool,
    reason LowCardinality(String),
    by String,
    at DateTime64(6, 'UTC'),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    appended_at DateTime64(3, 'UTC'),
    version UInt64 MATERIALIZED bitNot(toUInt64(offset))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (scope, partition, offset)
SETTINGS min_bytes_for_wide_part = 134217728, merge_selector_base = 100, min_free_disk_bytes_to_perform_insert = 33554432;

CREATE VIEW IF NOT EXISTS pointsman.pause_states AS SELECT * FROM pointsman.pause_states_log FINAL;

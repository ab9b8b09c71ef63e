-- What the topics hold, one row a record, as often as it was read. The views of 0002 show each fact once.
--
-- A fact is what its sorting key says; of several records of one fact the lowest offset counts, as it does everywhere
-- else. No table has a PARTITION BY: no key fixes a day (a task id may come again under another submission time), and
-- a producer that states a thousand days in one batch would have every insert refused. The index by_task is for those
-- who know a task's id and not its tenant.

CREATE TABLE IF NOT EXISTS pointsman.tasks_log
(
    tenant String,
    task_id String,
    conversation_id Nullable(String),
    text String,
    payload Nullable(String),
    intent LowCardinality(Nullable(String)),
    confidence Nullable(Float64),
    value_tier LowCardinality(String),
    jurisdiction LowCardinality(Nullable(String)),
    data_class LowCardinality(String),
    language LowCardinality(Nullable(String)),
    deadline_ms Nullable(Int64),
    budget_microusd Nullable(Int64),
    submitted_at DateTime64(6, 'UTC'),
    cause_id Nullable(String),
    root_id Nullable(String),
    depth Int32,
    labels Map(String, String),
    traceparent Nullable(String),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    appended_at DateTime64(3, 'UTC'),
    version UInt64 MATERIALIZED bitNot(toUInt64(offset)),
    INDEX by_task task_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant, task_id);

-- The task itself is not repeated here: see tasks.
CREATE TABLE IF NOT EXISTS pointsman.dispatches_log
(
    tenant String,
    task_id String,
    agent_id LowCardinality(String),
    attempt Int32,
    stage LowCardinality(String),
    seat Int32,
    conversation_id Nullable(String),
    root_id Nullable(String),
    intent LowCardinality(String),
    confidence Float64,
    band LowCardinality(String),
    value_tier LowCardinality(String),
    panel Array(LowCardinality(String)),
    chain Array(LowCardinality(String)),
    reason LowCardinality(String),
    route_version LowCardinality(String),
    attempts Int32,
    task_cost_microusd Int64,
    task_tokens Int64,
    probe_epoch Int64,
    timeout_ms Int32,
    deadline_default_ms Int64,
    routed_at DateTime64(6, 'UTC'),
    submitted_at DateTime64(6, 'UTC'),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    appended_at DateTime64(3, 'UTC'),
    version UInt64 MATERIALIZED bitNot(toUInt64(offset)),
    INDEX by_task task_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant, task_id, attempt, agent_id, stage);

-- event_id is the fact; it is made from tenant and task_id, which stand before it for those who look one task up.
CREATE TABLE IF NOT EXISTS pointsman.agent_events_log
(
    tenant String,
    task_id String,
    event_id String,
    kind LowCardinality(String),
    agent_id LowCardinality(String),
    attempt Int32,
    seat Int32,
    stage LowCardinality(String),
    conversation_id Nullable(String),
    root_id Nullable(String),
    cause_id Nullable(String),
    depth Int32,
    intent LowCardinality(String),
    band LowCardinality(String),
    reason LowCardinality(String),
    route_version LowCardinality(String),
    attempts Int32,
    probe_epoch Int64,
    timeout_ms Int32,
    routed_at DateTime64(6, 'UTC'),
    agent_version LowCardinality(String),
    epoch Int64,
    answer Nullable(String),
    vote_key Nullable(String),
    payload Nullable(String),
    confidence Nullable(Float64),
    citations Array(String),
    facts Array(String),
    error_class LowCardinality(Nullable(String)),
    error Nullable(String),
    tokens_in Int64,
    tokens_out Int64,
    cost_microusd Int64,
    started_at DateTime64(6, 'UTC'),
    finished_at DateTime64(6, 'UTC'),
    drift Nullable(Float64),
    submitted_at DateTime64(6, 'UTC'),
    deadline_ms Int64,
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    appended_at DateTime64(3, 'UTC'),
    version UInt64 MATERIALIZED bitNot(toUInt64(offset)),
    INDEX by_task task_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant, task_id, event_id);

CREATE TABLE IF NOT EXISTS pointsman.results_log
(
    tenant String,
    task_id String,
    conversation_id Nullable(String),
    labels Map(String, String),
    traceparent Nullable(String),
    status LowCardinality(String),
    reason LowCardinality(String),
    intent LowCardinality(Nullable(String)),
    answer Nullable(String),
    payload Nullable(String),
    confidence Nullable(Float64),
    agents Array(LowCardinality(String)),
    votes Array(Tuple(agent_id String, vote String, confidence Float64, weight Float64)),
    dissent Array(LowCardinality(String)),
    attempts Int32,
    cost_microusd Int64,
    tokens Int64,
    submitted_at DateTime64(6, 'UTC'),
    decided_at DateTime64(6, 'UTC'),
    route_version LowCardinality(String),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    appended_at DateTime64(3, 'UTC'),
    version UInt64 MATERIALIZED bitNot(toUInt64(offset)),
    INDEX by_task task_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant, task_id);

-- tenant and task_id are empty where no task is meant.
CREATE TABLE IF NOT EXISTS pointsman.orchestrator_events_log
(
    tenant String,
    task_id String,
    event_id String,
    kind LowCardinality(String),
    conversation_id Nullable(String),
    root_id Nullable(String),
    agent_id LowCardinality(Nullable(String)),
    attempt Int32,
    seat Int32,
    stage LowCardinality(String),
    intent LowCardinality(Nullable(String)),
    reason LowCardinality(String),
    detail Nullable(String),
    submitted_at DateTime64(6, 'UTC'),
    at DateTime64(6, 'UTC'),
    route_version LowCardinality(String),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    appended_at DateTime64(3, 'UTC'),
    version UInt64 MATERIALIZED bitNot(toUInt64(offset)),
    INDEX by_task task_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant, task_id, event_id);

-- topic, partition and offset are those of the dead topic. A record whose headers name no origin has its own place
-- there as its origin.
CREATE TABLE IF NOT EXISTS pointsman.dead_letters_log
(
    origin_topic LowCardinality(String),
    origin_partition Int64,
    origin_offset Int64,
    origin_at DateTime64(3, 'UTC'),
    reason LowCardinality(String),
    detail String,
    component LowCardinality(String),
    attempt Int64,
    key Nullable(String),
    value Nullable(String),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    appended_at DateTime64(3, 'UTC'),
    version UInt64 MATERIALIZED bitNot(toUInt64(offset))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (origin_topic, origin_partition, origin_offset);

-- Control topics: compacted, so each record is a fact of its own.
CREATE TABLE IF NOT EXISTS pointsman.breaker_states_log
(
    agent_id LowCardinality(String),
    state LowCardinality(String),
    epoch Int64,
    reason LowCardinality(String),
    since_ms Int64,
    until_ms Int64,
    trips Int32,
    probe_partitions Array(Int32),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    appended_at DateTime64(3, 'UTC'),
    version UInt64 MATERIALIZED bitNot(toUInt64(offset))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (agent_id, partition, offset);

CREATE TABLE IF NOT EXISTS pointsman.agent_cards_log
(
    agent_id LowCardinality(String),
    kind LowCardinality(String),
    effect LowCardinality(String),
    agent_version String,
    description String,
    host_id String,
    announced_at DateTime64(6, 'UTC'),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    appended_at DateTime64(3, 'UTC'),
    version UInt64 MATERIALIZED bitNot(toUInt64(offset))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (agent_id, partition, offset);

-- Counts are many and soon old; task_partition and window_id identify a count, so that a repeat is dropped.
CREATE TABLE IF NOT EXISTS pointsman.health_counts_log
(
    agent_id LowCardinality(String),
    window_id Int64,
    task_partition Int32,
    successes Int32,
    failures Int32,
    slow Int32,
    leading_failures Int32,
    trailing_failures Int32,
    demand Int32,
    probe_epoch Int64,
    probe_successes Int32,
    probe_failures Int32,
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    appended_at DateTime64(3, 'UTC'),
    version UInt64 MATERIALIZED bitNot(toUInt64(offset))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (agent_id, window_id, task_partition)
TTL toDateTime(appended_at) + INTERVAL 7 DAY;

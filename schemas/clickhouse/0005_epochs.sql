-- Who wrote in the agents' logs since when, and what was written behind its successor's claim and therefore decided
-- nothing (schemas/epochs.py): a host was stopped past its session, lost its inboxes, and went on. Such events are facts
-- like others and stand in agent_events, and what they cost was spent; figures about agents leave them out. Hosts of a
-- version that made no claims wrote epoch 0.

CREATE VIEW IF NOT EXISTS pointsman.agent_claims AS
SELECT
    agent_id, topic, partition, offset, appended_at,
    max(epoch) OVER (PARTITION BY topic, partition ORDER BY offset) AS epoch
FROM pointsman.agent_events_log FINAL
WHERE tenant = '' AND task_id = '' AND kind = 'NOTE' AND reason = 'CLAIMED';

CREATE VIEW IF NOT EXISTS pointsman.fenced_events AS
SELECT e.*
FROM pointsman.agent_events_log AS e FINAL
ASOF INNER JOIN pointsman.agent_claims AS c
    ON e.topic = c.topic AND e.partition = c.partition AND e.offset > c.offset
WHERE e.epoch > 0 AND e.epoch < c.epoch;

CREATE OR REPLACE VIEW pointsman.agent_minute AS
SELECT
    toStartOfMinute(finished_at) AS minute, agent_id,
    count() AS outcomes, countIf(kind = 'COMPLETED') AS completed, countIf(kind = 'FAILED') AS failed,
    countIf(kind = 'REFUSED') AS refused,
    quantilesExact(0.5, 0.95, 0.99)(toFloat64(finished_at - started_at) * 1000) AS quantiles_ms,
    quantiles_ms[1] AS p50_ms, quantiles_ms[2] AS p95_ms, quantiles_ms[3] AS p99_ms,
    sum(cost_microusd) AS cost_microusd, sum(tokens_in) AS tokens_in, sum(tokens_out) AS tokens_out
FROM
(
    SELECT e.*
    FROM pointsman.agent_events_log AS e FINAL
    ASOF LEFT JOIN pointsman.agent_claims AS c
        ON e.topic = c.topic AND e.partition = c.partition AND e.offset > c.offset
    WHERE e.kind IN ('COMPLETED', 'FAILED', 'REFUSED') AND (e.epoch = 0 OR e.epoch >= c.epoch)
)
GROUP BY minute, agent_id;

-- An epoch above 2^62 is nobody's (schemas/epochs.py, EPOCH_MAX): a claim that bears it claims nothing, and every event
-- that does is void, wherever it stands. Believed, one such record would have made void all that owners wrote behind it.
-- One below zero is none.

CREATE OR REPLACE VIEW pointsman.agent_claims AS
SELECT
    agent_id, topic, partition, offset, appended_at,
    max(l.epoch) OVER (PARTITION BY topic, partition ORDER BY offset) AS epoch
FROM pointsman.agent_events_log AS l FINAL
WHERE tenant = '' AND task_id = '' AND kind = 'NOTE' AND reason = 'CLAIMED' AND l.epoch <= 4611686018427387904;

CREATE OR REPLACE VIEW pointsman.fenced_events AS
SELECT e.*
FROM pointsman.agent_events_log AS e FINAL
ASOF LEFT JOIN pointsman.agent_claims AS c
    ON e.topic = c.topic AND e.partition = c.partition AND e.offset > c.offset
WHERE e.epoch > 0 AND e.epoch < c.epoch OR e.epoch > 4611686018427387904;

CREATE OR REPLACE VIEW pointsman.agent_minute AS
SELECT
    toStartOfMinute(e.finished_at) AS minute, e.agent_id AS agent_id,
    count() AS outcomes, countIf(e.kind = 'COMPLETED') AS completed, countIf(e.kind = 'FAILED') AS failed,
    countIf(e.kind = 'REFUSED') AS refused,
    quantilesExact(0.5, 0.95, 0.99)(toFloat64(e.finished_at - e.started_at) * 1000) AS quantiles_ms,
    quantiles_ms[1] AS p50_ms, quantiles_ms[2] AS p95_ms, quantiles_ms[3] AS p99_ms,
    sum(e.cost_microusd) AS cost_microusd, sum(e.tokens_in) AS tokens_in, sum(e.tokens_out) AS tokens_out
FROM
(
    SELECT
        tenant, task_id, event_id, finished_at, topic, partition, epoch, min(l.offset) AS offset,
        any(l.agent_id) AS agent_id, any(l.kind) AS kind, any(l.started_at) AS started_at,
        any(l.cost_microusd) AS cost_microusd, any(l.tokens_in) AS tokens_in, any(l.tokens_out) AS tokens_out
    FROM pointsman.agent_events_log AS l
    WHERE l.kind IN ('COMPLETED', 'FAILED', 'REFUSED') AND l.epoch <= 4611686018427387904
    GROUP BY tenant, task_id, event_id, finished_at, topic, partition, epoch
    SETTINGS optimize_aggregation_in_order = 1
) AS e
ASOF LEFT JOIN pointsman.agent_claims AS c
    ON e.topic = c.topic AND e.partition = c.partition AND e.offset > c.offset
WHERE e.epoch <= 0 OR e.epoch >= c.epoch
GROUP BY minute, agent_id;

CREATE OR REPLACE VIEW pointsman.agent_versions AS
SELECT appended_at AS since, agent_id, partition, agent_version, previous, epoch, declared, topic, offset
FROM
(
    SELECT
        appended_at, agent_id, topic, partition, offset, agent_version, epoch, payload AS declared,
        lagInFrame(agent_version) OVER
            (PARTITION BY topic, partition ORDER BY offset ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS previous
    FROM
    (
        SELECT *, max(epoch) OVER (PARTITION BY topic, partition ORDER BY offset) AS newest
        FROM pointsman.agent_events_log FINAL
        WHERE tenant = '' AND task_id = '' AND kind = 'NOTE' AND reason = 'CLAIMED' AND epoch <= 4611686018427387904
    )
    WHERE epoch = newest
)
WHERE agent_version != previous;

CREATE OR REPLACE VIEW pointsman.answered_by AS
SELECT
    r.decided_at AS at, r.tenant AS tenant, r.task_id AS task_id, r.status AS status, e.agent_id AS agent_id,
    e.agent_version AS agent_version, e.attempt AS attempt, e.stage AS stage, e.epoch AS epoch, e.answer AS answer,
    e.confidence AS confidence
FROM pointsman.results_log AS r FINAL
INNER JOIN
(
    SELECT e.*
    FROM pointsman.agent_events_log AS e FINAL
    ASOF LEFT JOIN pointsman.agent_claims AS c
        ON e.topic = c.topic AND e.partition = c.partition AND e.offset > c.offset
    WHERE e.kind = 'COMPLETED' AND (e.epoch <= 0 OR e.epoch >= c.epoch) AND e.epoch <= 4611686018427387904
) AS e ON e.tenant = r.tenant AND e.task_id = r.task_id
WHERE has(r.agents, e.agent_id);

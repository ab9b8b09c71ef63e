-- The same answers as before from less: of views that were slow or too large for memory at ten million interactions.

-- An outcome's id fixes when it was finished, for a host ends an attempt once; so outcomes may be chosen by that time
-- before they are folded, and who asks for a day reads a day, not everything.
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
    WHERE l.kind IN ('COMPLETED', 'FAILED', 'REFUSED')
    GROUP BY tenant, task_id, event_id, finished_at, topic, partition, epoch
    SETTINGS optimize_aggregation_in_order = 1
) AS e
ASOF LEFT JOIN pointsman.agent_claims AS c
    ON e.topic = c.topic AND e.partition = c.partition AND e.offset > c.offset
WHERE e.epoch = 0 OR e.epoch >= c.epoch
GROUP BY minute, agent_id;

-- The tasks that came of redrives are found by their places first, without folding; only they are joined.
CREATE OR REPLACE VIEW pointsman.redriven AS
WITH went AS
(
    SELECT tenant, task_id FROM pointsman.tasks_log
    WHERE (topic, partition, offset) IN (SELECT origin_topic, origin_partition, to_offset FROM pointsman.redrives)
)
SELECT
    r.at AS at, r.origin_topic AS origin_topic, r.origin_partition AS origin_partition,
    r.origin_offset AS origin_offset, r.attempt AS attempt, r.to_offset AS to_offset, r.changed AS changed,
    t.tenant AS tenant, t.task_id AS task_id, e.status AS status, e.reason AS reason, d.reason AS died_again
FROM pointsman.redrives AS r
LEFT JOIN pointsman.dead_letters AS d
ON d.origin_topic = r.origin_topic AND d.origin_partition = r.origin_partition AND d.origin_offset = r.to_offset
LEFT JOIN
(
    SELECT tenant, task_id, topic, toInt64(partition) AS place, offset FROM pointsman.tasks
    WHERE (tenant, task_id) IN (SELECT tenant, task_id FROM went)
) AS t
ON t.topic = r.origin_topic AND t.place = r.origin_partition AND t.offset = r.to_offset
LEFT JOIN
(
    SELECT tenant, task_id, status, reason FROM pointsman.results
    WHERE (tenant, task_id) IN (SELECT tenant, task_id FROM went)
) AS e
ON e.tenant = t.tenant AND e.task_id = t.task_id;

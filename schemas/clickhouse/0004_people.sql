-- Views that people open first. All are computed over the folded facts, none at insert: a repeated block counts once.

CREATE VIEW IF NOT EXISTS pointsman.dead AS
SELECT
    appended_at AS at, origin_topic, origin_partition, origin_offset, origin_at, reason, detail, component, attempt,
    if(isValidUTF8(ifNull(key, '')), key, concat('0x', hex(key))) AS key, length(value) AS size
FROM pointsman.dead_letters;

CREATE VIEW IF NOT EXISTS pointsman.cascades AS
SELECT at, tenant, task_id, agent_id, attempt, seat, stage, intent, reason
FROM pointsman.orchestrator_events WHERE kind = 'CASCADED';

CREATE VIEW IF NOT EXISTS pointsman.conflicts AS
SELECT
    c.at AS at, c.tenant AS tenant, c.task_id AS task_id, c.intent AS intent, c.reason AS reason,
    r.status AS status, r.reason AS outcome, r.votes AS votes, r.dissent AS dissent
FROM (SELECT * FROM pointsman.orchestrator_events WHERE kind = 'CONFLICT') AS c
LEFT JOIN pointsman.results AS r ON r.tenant = c.tenant AND r.task_id = c.task_id;

CREATE VIEW IF NOT EXISTS pointsman.agent_minute AS
SELECT
    toStartOfMinute(finished_at) AS minute, agent_id,
    count() AS outcomes, countIf(kind = 'COMPLETED') AS completed, countIf(kind = 'FAILED') AS failed,
    countIf(kind = 'REFUSED') AS refused,
    quantilesExact(0.5, 0.95, 0.99)(toFloat64(finished_at - started_at) * 1000) AS quantiles_ms,
    quantiles_ms[1] AS p50_ms, quantiles_ms[2] AS p95_ms, quantiles_ms[3] AS p99_ms,
    sum(cost_microusd) AS cost_microusd, sum(tokens_in) AS tokens_in, sum(tokens_out) AS tokens_out
FROM pointsman.agent_events
WHERE kind IN ('COMPLETED', 'FAILED', 'REFUSED')
GROUP BY minute, agent_id;

CREATE VIEW IF NOT EXISTS pointsman.spend AS
SELECT toDate(decided_at) AS day, tenant, intent, count() AS tasks, sum(cost_microusd) AS cost_microusd,
    sum(tokens) AS tokens
FROM pointsman.results
GROUP BY day, tenant, intent;

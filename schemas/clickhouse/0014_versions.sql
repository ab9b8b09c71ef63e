-- As before, and which version of the agent answered, and what of its answer a panel compares.
CREATE OR REPLACE VIEW pointsman.task_timeline AS
SELECT
    submitted_at AS at, tenant, task_id, 'SUBMITTED' AS kind, '' AS status, '' AS agent_id, 0 AS attempt, 0 AS seat,
    '' AS stage, ifNull(intent, '') AS intent, confidence, '' AS reason, text AS detail, toInt64(0) AS cost_microusd,
    toInt64(0) AS tokens, topic, partition, offset, appended_at, 0 AS step, 0 AS rank, '' AS agent_version,
    CAST(NULL, 'Nullable(String)') AS vote_key
FROM pointsman.tasks_log FINAL
UNION ALL
SELECT
    routed_at, tenant, task_id, 'DISPATCHED', '', agent_id, attempt, seat, stage,
    intent, confidence, reason, band, toInt64(0),
    toInt64(0), topic, partition, offset, appended_at, 1, 1, '', NULL
FROM pointsman.dispatches_log FINAL
UNION ALL
SELECT
    if(kind = 'STARTED' OR finished_at = 0, if(started_at = 0, appended_at, started_at), finished_at),
    tenant, task_id, kind, '', agent_id, attempt, seat, stage,
    intent, confidence, ifNull(error_class, ''), coalesce(error, answer, ''), cost_microusd,
    tokens_in + tokens_out, topic, partition, offset, appended_at, 1, if(kind = 'STARTED', 2, 3), agent_version, vote_key
FROM pointsman.agent_events_log FINAL
UNION ALL
SELECT
    at, tenant, task_id, kind, '', ifNull(agent_id, ''), attempt, seat, stage,
    ifNull(intent, ''), NULL, reason, ifNull(detail, ''), toInt64(0),
    toInt64(0), topic, partition, offset, appended_at, 1, 4, '', NULL
FROM pointsman.orchestrator_events_log FINAL
WHERE task_id != ''
UNION ALL
SELECT
    decided_at, tenant, task_id, 'RESULT', status, arrayStringConcat(agents, ', '), attempts, 0, '',
    ifNull(intent, ''), confidence, reason, ifNull(answer, ''), cost_microusd,
    tokens, topic, partition, offset, appended_at, 1, 5, '', NULL
FROM pointsman.results_log FINAL;

-- Which tasks another one caused. Few tasks have a cause, so hardly a granule is read.
ALTER TABLE pointsman.tasks_log ADD INDEX IF NOT EXISTS by_cause cause_id TYPE bloom_filter(0.01) GRANULARITY 1;

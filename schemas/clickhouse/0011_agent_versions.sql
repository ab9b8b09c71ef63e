-- Which version of an agent answered. Each host that takes a partition of an agent's log over claims it, and the claim
-- names the version that answers from there on; every event bears it, too. A claim that stands behind a newer one is a
-- sleeper's, and changes nothing (0005). `declared` says what the version consists of, as JSON, where it is new to the log.

CREATE VIEW IF NOT EXISTS pointsman.agent_versions AS
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
        WHERE tenant = '' AND task_id = '' AND kind = 'NOTE' AND reason = 'CLAIMED'
    )
    WHERE epoch = newest
)
WHERE agent_version != previous;

-- Whose answer each result is, and of which version. What a fenced host wrote is nobody's answer.
CREATE VIEW IF NOT EXISTS pointsman.answered_by AS
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
    WHERE e.kind = 'COMPLETED' AND (e.epoch = 0 OR e.epoch >= c.epoch)
) AS e ON e.tenant = r.tenant AND e.task_id = r.task_id
WHERE has(r.agents, e.agent_id);

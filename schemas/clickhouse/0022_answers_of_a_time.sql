-- Asked for a time, the results of that time are held and the agents' answers pass by, and not the other way round: who
-- asked for a day of ten million answers was refused, for all of them had to be held at once.

CREATE OR REPLACE VIEW pointsman.answered_by AS
SELECT
    r.decided_at AS at, e.tenant AS tenant, e.task_id AS task_id, r.status AS status, e.agent_id AS agent_id,
    e.agent_version AS agent_version, e.attempt AS attempt, e.stage AS stage, e.epoch AS epoch, e.answer AS answer,
    e.confidence AS confidence
FROM
(
    SELECT e.*
    FROM pointsman.agent_events_log AS e FINAL
    ASOF LEFT JOIN pointsman.agent_claims AS c
        ON e.topic = c.topic AND e.partition = c.partition AND e.offset > c.offset
    WHERE e.kind = 'COMPLETED' AND (e.epoch <= 0 OR e.epoch >= c.epoch) AND e.epoch <= 4611686018427387904
) AS e
INNER JOIN (SELECT tenant, task_id, decided_at, status, agents FROM pointsman.results_log FINAL) AS r
    ON e.tenant = r.tenant AND e.task_id = r.task_id
WHERE has(r.agents, e.agent_id);

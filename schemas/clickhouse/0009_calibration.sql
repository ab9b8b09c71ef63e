-- Stated confidence against outcome, by agent and tenth: of the votes of panels that agreed, how many were for what the
-- panel agreed on. stated is the lower bound of the tenth, 1.0 stands with the last. votes counts all, judged those of
-- panels that settled; a panel that escalated says nothing of who was right. gap is positive where an agent is surer
-- than it should be. Agreement is not truth: a fleet that errs alike looks well calibrated here.
CREATE VIEW IF NOT EXISTS pointsman.calibration AS
SELECT
    vote.agent_id AS agent_id, least(floor(vote.confidence * 10), 9) / 10 AS stated,
    count() AS votes, countIf(settled) AS judged, countIf(settled AND agreed) AS agreed,
    avgIf(vote.confidence, settled) AS confidence, agreed / judged AS agreed_share, confidence - agreed_share AS gap
FROM
(
    SELECT vote, has(agents, vote.agent_id) AS agreed, status = 'COMPLETED' AND length(votes) > 1 AS settled
    FROM pointsman.results_log FINAL ARRAY JOIN votes AS vote
)
GROUP BY agent_id, stated;

-- As before, but of the results only those are read that a panel which disagreed came to.
CREATE OR REPLACE VIEW pointsman.conflicts AS
SELECT
    c.at AS at, c.tenant AS tenant, c.task_id AS task_id, c.intent AS intent, c.reason AS reason,
    r.status AS status, r.reason AS outcome, r.votes AS votes, r.dissent AS dissent
FROM (SELECT * FROM pointsman.orchestrator_events WHERE kind = 'CONFLICT') AS c
LEFT JOIN
(
    SELECT tenant, task_id, status, reason, votes, dissent FROM pointsman.results
    WHERE (tenant, task_id) IN (SELECT tenant, task_id FROM pointsman.orchestrator_events WHERE kind = 'CONFLICT')
) AS r
ON r.tenant = c.tenant AND r.task_id = c.task_id;

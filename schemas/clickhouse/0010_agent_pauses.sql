-- Who paused, resumed or retired which agent, when, and what they said of it. scope is topic:NAME or agent:NAME.
ALTER TABLE pointsman.pause_states_log ADD COLUMN IF NOT EXISTS note String AFTER at;

CREATE OR REPLACE VIEW pointsman.pause_states AS SELECT * FROM pointsman.pause_states_log FINAL;

CREATE VIEW IF NOT EXISTS pointsman.agent_pauses AS
SELECT
    at, substring(scope, 7) AS agent_id, multiIf(NOT paused, 'ASKED', reason = 'RETIRED', 'RETIRED', 'PAUSED') AS state,
    reason, by, note AS why
FROM pointsman.pause_states WHERE startsWith(scope, 'agent:');

-- Each fact once, whatever was read, written or sent twice.

CREATE VIEW IF NOT EXISTS pointsman.tasks AS SELECT * FROM pointsman.tasks_log FINAL;
CREATE VIEW IF NOT EXISTS pointsman.dispatches AS SELECT * FROM pointsman.dispatches_log FINAL;
CREATE VIEW IF NOT EXISTS pointsman.agent_events AS SELECT * FROM pointsman.agent_events_log FINAL;
CREATE VIEW IF NOT EXISTS pointsman.results AS SELECT * FROM pointsman.results_log FINAL;
CREATE VIEW IF NOT EXISTS pointsman.orchestrator_events AS SELECT * FROM pointsman.orchestrator_events_log FINAL;
CREATE VIEW IF NOT EXISTS pointsman.dead_letters AS SELECT * FROM pointsman.dead_letters_log FINAL;
CREATE VIEW IF NOT EXISTS pointsman.breaker_states AS SELECT * FROM pointsman.breaker_states_log FINAL;
CREATE VIEW IF NOT EXISTS pointsman.agent_cards AS SELECT * FROM pointsman.agent_cards_log FINAL;
CREATE VIEW IF NOT EXISTS pointsman.health_counts AS SELECT * FROM pointsman.health_counts_log FINAL;

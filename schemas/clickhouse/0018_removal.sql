-- Parts that a merge has replaced are removed by the one thread that finds them. ClickHouse's own way, from a hundred such
-- parts of a table on, is a pool of up to 128 threads, which are kept for ever and hold three open files each: 400 files
-- and some memory, for what one thread does in milliseconds on a local disk.

ALTER TABLE pointsman.tasks_log MODIFY SETTING concurrent_part_removal_threshold = 1000000;
ALTER TABLE pointsman.dispatches_log MODIFY SETTING concurrent_part_removal_threshold = 1000000;
ALTER TABLE pointsman.agent_events_log MODIFY SETTING concurrent_part_removal_threshold = 1000000;
ALTER TABLE pointsman.results_log MODIFY SETTING concurrent_part_removal_threshold = 1000000;
ALTER TABLE pointsman.orchestrator_events_log MODIFY SETTING concurrent_part_removal_threshold = 1000000;
ALTER TABLE pointsman.dead_letters_log MODIFY SETTING concurrent_part_removal_threshold = 1000000;
ALTER TABLE pointsman.breaker_states_log MODIFY SETTING concurrent_part_removal_threshold = 1000000;
ALTER TABLE pointsman.agent_cards_log MODIFY SETTING concurrent_part_removal_threshold = 1000000;
ALTER TABLE pointsman.health_counts_log MODIFY SETTING concurrent_part_removal_threshold = 1000000;
ALTER TABLE pointsman.redrives_log MODIFY SETTING concurrent_part_removal_threshold = 1000000;
ALTER TABLE pointsman.pause_states_log MODIFY SETTING concurrent_part_removal_threshold = 1000000;
ALTER TABLE pointsman.memory_directives_log MODIFY SETTING concurrent_part_removal_threshold = 1000000;
ALTER TABLE pointsman.conversation_outcomes_log MODIFY SETTING concurrent_part_removal_threshold = 1000000;
ALTER TABLE pointsman.conversation_tasks_log MODIFY SETTING concurrent_part_removal_threshold = 1000000;
ALTER TABLE pointsman.conversation_summaries MODIFY SETTING concurrent_part_removal_threshold = 1000000;

-- How parts are written and merged. With ClickHouse's defaults a row is merged about five times in its first hour, and
-- each time costs more than its insert.
--
-- A small part is one file, not three for each column. Parts are merged when there are some dozens of a size. Inserts
-- stop before a disk is full, so that merges, which have no one to tell, keep some room.

ALTER TABLE pointsman.tasks_log MODIFY SETTING
    min_bytes_for_wide_part = 134217728, merge_selector_base = 100, min_free_disk_bytes_to_perform_insert = 33554432;
ALTER TABLE pointsman.dispatches_log MODIFY SETTING
    min_bytes_for_wide_part = 134217728, merge_selector_base = 100, min_free_disk_bytes_to_perform_insert = 33554432;
ALTER TABLE pointsman.agent_events_log MODIFY SETTING
    min_bytes_for_wide_part = 134217728, merge_selector_base = 100, min_free_disk_bytes_to_perform_insert = 33554432;
ALTER TABLE pointsman.results_log MODIFY SETTING
    min_bytes_for_wide_part = 134217728, merge_selector_base = 100, min_free_disk_bytes_to_perform_insert = 33554432;
ALTER TABLE pointsman.orchestrator_events_log MODIFY SETTING
    min_bytes_for_wide_part = 134217728, merge_selector_base = 100, min_free_disk_bytes_to_perform_insert = 33554432;
ALTER TABLE pointsman.dead_letters_log MODIFY SETTING
    min_bytes_for_wide_part = 134217728, merge_selector_base = 100, min_free_disk_bytes_to_perform_insert = 33554432;
ALTER TABLE pointsman.breaker_states_log MODIFY SETTING
    min_bytes_for_wide_part = 134217728, merge_selector_base = 100, min_free_disk_bytes_to_perform_insert = 33554432;
ALTER TABLE pointsman.agent_cards_log MODIFY SETTING
    min_bytes_for_wide_part = 134217728, merge_selector_base = 100, min_free_disk_bytes_to_perform_insert = 33554432;
ALTER TABLE pointsman.health_counts_log MODIFY SETTING
    min_bytes_for_wide_part = 134217728, merge_selector_base = 100, min_free_disk_bytes_to_perform_insert = 33554432;

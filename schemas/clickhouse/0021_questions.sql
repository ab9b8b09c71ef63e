-- A task id that comes again in its conversation once `limits.duplicate_horizon_ms` is over is another task, with another
-- question; so a question is known by the time of its submission, too, which every event about the task repeats. A
-- submission that a producer sent twice, with two times, is two rows here, and events bear the time of the one that was
-- taken up. The column is new and stands last, so ClickHouse takes it into the key of rows that are there without
-- sorting them anew; the primary key, which is read by, stays what it was. Rows of before are copied once more with
-- their times; those without are of no use any more, but for tasks whose producer states no time.

ALTER TABLE pointsman.conversation_tasks_log
    ADD COLUMN IF NOT EXISTS submitted_at DateTime64(6, 'UTC') AFTER labels,
    MODIFY ORDER BY (tenant, conversation_id, task_id, submitted_at);
ALTER TABLE pointsman.conversation_outcomes_log
    ADD COLUMN IF NOT EXISTS submitted_at DateTime64(6, 'UTC') AFTER finished_at;

ALTER TABLE pointsman.conversation_tasks_copy MODIFY QUERY
SELECT
    tenant, assumeNotNull(conversation_id) AS conversation_id, task_id, text, labels, submitted_at, topic, partition, offset,
    appended_at
FROM pointsman.tasks_log
WHERE conversation_id IS NOT NULL;

ALTER TABLE pointsman.conversation_outcomes_copy MODIFY QUERY
SELECT
    tenant, agent_id, ifNull(conversation_id, '') AS conversation_id,
    if(reason = 'SUMMARISED', -JSONExtractInt(ifNull(payload, ''), 'summary', 'last'), ordinal) AS ordinal,
    event_id, task_id, attempt, stage, kind, epoch, answer, tool_calls, facts, error, cause_id, started_at, finished_at,
    submitted_at, tokens_in, tokens_out, cost_microusd, agent_version,
    if(reason = 'SUMMARISED', payload, NULL) AS summary, topic, partition, offset, appended_at
FROM
(
    SELECT * FROM pointsman.agent_events_log
    WHERE (ordinal > 0 AND conversation_id IS NOT NULL AND kind IN ('COMPLETED', 'FAILED', 'REFUSED'))
        OR (tenant = '' AND task_id = '' AND kind = 'NOTE' AND reason = 'CLAIMED')
        OR (conversation_id IS NOT NULL AND task_id = '' AND kind = 'NOTE' AND reason = 'SUMMARISED')
);

-- What was there before, and what a dropped table held: repeats fold, the last that was written stays.
INSERT INTO pointsman.conversation_tasks_log
    (tenant, conversation_id, task_id, text, labels, submitted_at, topic, partition, offset, appended_at)
SELECT
    tenant, assumeNotNull(conversation_id), task_id, text, labels, submitted_at, topic, partition, offset, appended_at
FROM pointsman.tasks_log
WHERE conversation_id IS NOT NULL
SETTINGS max_execution_time = 0;

INSERT INTO pointsman.conversation_outcomes_log
    (tenant, agent_id, conversation_id, ordinal, event_id, task_id, attempt, stage, kind, epoch, answer, tool_calls, facts,
    error, cause_id, started_at, finished_at, submitted_at, tokens_in, tokens_out, cost_microusd, agent_version, topic,
    partition, offset, appended_at)
SELECT
    tenant, agent_id, assumeNotNull(conversation_id), ordinal, event_id, task_id, attempt, stage, kind, epoch, answer,
    tool_calls, facts, error, cause_id, started_at, finished_at, submitted_at, tokens_in, tokens_out, cost_microusd,
    agent_version, topic, partition, offset, appended_at
FROM pointsman.agent_events_log
WHERE ordinal > 0 AND conversation_id IS NOT NULL AND kind IN ('COMPLETED', 'FAILED', 'REFUSED')
SETTINGS max_execution_time = 0;

-- As before (0015), each outcome beside what was asked then.
CREATE OR REPLACE VIEW pointsman.interactions AS
SELECT
    o.tenant AS tenant, o.agent_id AS agent_id, o.conversation_id AS conversation_id, o.ordinal AS ordinal,
    o.epoch AS epoch, o.task_id AS task_id, o.attempt AS attempt, o.stage AS stage, o.kind AS status, t.text AS asked,
    o.answer AS answer, o.tool_calls AS tool_calls, o.facts AS facts, o.error AS error, o.cause_id AS cause_id,
    t.labels AS labels, o.started_at AS started_at, o.finished_at AS finished_at, o.tokens_in AS tokens_in,
    o.tokens_out AS tokens_out, o.cost_microusd AS cost_microusd, o.agent_version AS agent_version,
    o.event_id AS event_id, o.topic AS topic, o.partition AS partition, o.offset AS offset
FROM (SELECT * FROM pointsman.conversation_outcomes_log FINAL WHERE ordinal > 0) AS o
LEFT JOIN (SELECT * FROM pointsman.conversation_tasks_log FINAL) AS t
    ON t.tenant = o.tenant AND t.conversation_id = o.conversation_id AND t.task_id = o.task_id
    AND t.submitted_at = o.submitted_at;

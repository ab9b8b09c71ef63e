-- Summaries that models made: events of agents' logs (a NOTE about a conversation, with the reason SUMMARISED), so that
-- memory out of the history has them, too. They are copied beside the outcomes of their conversation, in the same parts,
-- and so are there before anything that stands behind them in the log. `ordinal` is the last interaction that one stands
-- for, negative: whoever asks for outcomes does not read them.
ALTER TABLE pointsman.conversation_outcomes_log ADD COLUMN IF NOT EXISTS summary Nullable(String) AFTER agent_version;

ALTER TABLE pointsman.conversation_outcomes_copy MODIFY QUERY
SELECT
    tenant, agent_id, ifNull(conversation_id, '') AS conversation_id,
    if(reason = 'SUMMARISED', -JSONExtractInt(ifNull(payload, ''), 'summary', 'last'), ordinal) AS ordinal,
    event_id, task_id, attempt, stage, kind, epoch, answer, tool_calls, facts, error, cause_id, started_at, finished_at,
    tokens_in, tokens_out, cost_microusd, agent_version, if(reason = 'SUMMARISED', payload, NULL) AS summary,
    topic, partition, offset, appended_at
FROM
(
    SELECT * FROM pointsman.agent_events_log
    WHERE (ordinal > 0 AND conversation_id IS NOT NULL AND kind IN ('COMPLETED', 'FAILED', 'REFUSED'))
        OR (tenant = '' AND task_id = '' AND kind = 'NOTE' AND reason = 'CLAIMED')
        OR (conversation_id IS NOT NULL AND task_id = '' AND kind = 'NOTE' AND reason = 'SUMMARISED')
);

-- What a table that was dropped and made again held: repeats fold.
INSERT INTO pointsman.conversation_outcomes_log
    (tenant, agent_id, conversation_id, ordinal, event_id, task_id, kind, epoch, started_at, finished_at, agent_version,
    summary, topic, partition, offset, appended_at)
SELECT
    tenant, agent_id, assumeNotNull(conversation_id), -JSONExtractInt(ifNull(payload, ''), 'summary', 'last'), event_id,
    task_id, kind, epoch, started_at, finished_at, agent_version, payload, topic, partition, offset, appended_at
FROM pointsman.agent_events_log
WHERE conversation_id IS NOT NULL AND task_id = '' AND kind = 'NOTE' AND reason = 'SUMMARISED'
SETTINGS max_execution_time = 0;

-- As before (0016), and those of models, as their logs have them. Who reads them for an agent takes of each range the one
-- with the highest epoch; what a fenced host wrote is here, too (see fenced_events).
CREATE OR REPLACE VIEW pointsman.summaries AS
SELECT
    tenant, agent_id, conversation_id, first, last, kind, maker, ordinals, members, lines, origins, tokens,
    arrayStringConcat(lines, '\n') AS text, appended_at AS made_at
FROM
(
    SELECT
        tenant, agent_id, conversation_id, first, last, kind, maker, ordinals, members, lines, origins, tokens, appended_at
    FROM pointsman.conversation_summaries FINAL
    UNION ALL
    SELECT
        tenant, agent_id, conversation_id, JSONExtractInt(said, 'first'), JSONExtractInt(said, 'last'), 'model',
        JSONExtractString(said, 'maker'),
        arrayMap(each -> each.1, JSONExtract(said, 'members', 'Array(Tuple(Int64, String))')),
        arrayMap(each -> each.2, JSONExtract(said, 'members', 'Array(Tuple(Int64, String))')),
        JSONExtract(said, 'lines', 'Array(String)'), CAST([], 'Array(String)'), toInt64(0), appended_at
    FROM
    (
        SELECT *, JSONExtractRaw(ifNull(summary, ''), 'summary') AS said
        FROM pointsman.conversation_outcomes_log FINAL
        WHERE ordinal < 0
    )
)
WHERE NOT hasAny(
    members, (SELECT groupUniqArrayArray(interactions) FROM pointsman.memory_directives_log WHERE kind = 'REVOKE'));

-- What went back from the dead topic, told by the markers that `pointsman dlq redrive` leaves there. The origin is that
-- of the dead letter; to_offset is where its record stands now, in the same topic and partition, -1 where that is not
-- known. topic, partition and offset are those of the marker.
CREATE TABLE IF NOT EXISTS pointsman.redrives_log
(
    origin_topic LowCardinality(String),
    origin_partition Int64,
    origin_offset Int64,
    letter_offset Int64,
    to_offset Int64,
    attempt Int64,
    changed LowCardinality(String),
    at DateTime64(3, 'UTC'),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    appended_at DateTime64(3, 'UTC'),
    version UInt64 MATERIALIZED bitNot(toUInt64(offset))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (origin_topic, origin_partition, origin_offset, topic, partition, offset)
SETTINGS min_bytes_for_wide_part = 134217728, merge_selector_base = 100, min_free_disk_bytes_to_perform_insert = 33554432;

CREATE VIEW IF NOT EXISTS pointsman.redrives AS SELECT * FROM pointsman.redrives_log FINAL;

-- As before, and how often and when each went back.
CREATE OR REPLACE VIEW pointsman.dead AS
SELECT
    d.appended_at AS at, d.origin_topic AS origin_topic, d.origin_partition AS origin_partition,
    d.origin_offset AS origin_offset, d.origin_at AS origin_at, d.reason AS reason, d.detail AS detail,
    d.component AS component, d.attempt AS attempt,
    if(isValidUTF8(ifNull(d.key, '')), d.key, concat('0x', hex(d.key))) AS key, length(d.value) AS size,
    concat(toString(d.partition), ':', toString(d.offset)) AS id,
    r.times AS redrives, if(r.times = 0, NULL, r.last_at) AS redriven_at
FROM pointsman.dead_letters AS d
LEFT JOIN
(
    SELECT origin_topic, origin_partition, origin_offset, count() AS times, max(at) AS last_at
    FROM pointsman.redrives GROUP BY origin_topic, origin_partition, origin_offset
) AS r
ON r.origin_topic = d.origin_topic AND r.origin_partition = d.origin_partition AND r.origin_offset = d.origin_offset;

-- What became of each redrive: the task that was read at last, and its result; or why it was put away again.
CREATE VIEW IF NOT EXISTS pointsman.redriven AS
SELECT
    r.at AS at, r.origin_topic AS origin_topic, r.origin_partition AS origin_partition,
    r.origin_offset AS origin_offset, r.attempt AS attempt, r.to_offset AS to_offset, r.changed AS changed,
    t.tenant AS tenant, t.task_id AS task_id, e.status AS status, e.reason AS reason, d.reason AS died_again
FROM pointsman.redrives AS r
LEFT JOIN pointsman.dead_letters AS d
ON d.origin_topic = r.origin_topic AND d.origin_partition = r.origin_partition AND d.origin_offset = r.to_offset
LEFT JOIN (SELECT tenant, task_id, topic, toInt64(partition) AS place, offset FROM pointsman.tasks) AS t
ON t.topic = r.origin_topic AND t.place = r.origin_partition AND t.offset = r.to_offset
LEFT JOIN pointsman.results AS e ON e.tenant = t.tenant AND e.task_id = t.task_id;

"""What the processes say of themselves: every metric's name, labels and meaning, and the shape of a log line.

Neither carries a task's text, ids or payload. I/O: stderr.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from functools import cache
from typing import Any, TypeVar

from prometheus_client import Counter, Gauge, Histogram

from streams.transport.absent import kept_out
from streams.transport.histogram import BatchHistogram

with kept_out("rich"):  # structlog would draw tracebacks with it; ours are lines of JSON
    import structlog

# .5 and 2 s are the promises that a reader of the decision latency looks for.
_DECISION_EDGES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_TURN_EDGES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_ATTEMPT_EDGES = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_INSERT_EDGES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# Faust tells of each of its services, under the name of the module that defines them.
_CHATTY = ("faust", "mode", "streams.transport.faust_driver")

# Worker
TASKS_SUBMITTED = Counter("pointsman_tasks_submitted", "Submissions decoded by the router")
DISPATCHES = Counter("pointsman_dispatches", "Dispatches to agents", ("agent", "reason"))
OUTCOMES = Counter("pointsman_outcomes", "Outcomes that agents reported", ("agent", "kind"))
RESULTS = Counter("pointsman_results", "Results given", ("status", "reason"))
DEAD_LETTERS = Counter("pointsman_dead_letters", "Records put on the dead topic", ("topic", "reason"))
DUPLICATES = Counter("pointsman_duplicates", "Submissions of a task that was already known")
LATE_VOTES = Counter("pointsman_late_votes", "Outcomes that came too late and were not applied")
BREAKER_STATE = Gauge("pointsman_breaker_state", "0 closed, 1 open, 2 half-open", ("agent",))
INFLIGHT_TASKS = Gauge("pointsman_inflight_tasks", "Tasks without a result yet", ("partition",))
SPILLED_TASKS = Gauge(
    "pointsman_spilled_tasks", "Of these, those that stand in the compacted topic and hold nothing back", ("partition",)
)
RECOVERY_RECORDS = Counter("pointsman_recovery_records", "Records that recoveries read back", ("topic",))
DECISION_DURATION = BatchHistogram(
    "pointsman_decision_duration_seconds", "From a task's submission to its result", buckets=_DECISION_EDGES
)
TURN_DURATION = Histogram(
    "pointsman_turn_duration_seconds", "Decode, decide and produce one batch", ("processor",), buckets=_TURN_EDGES
)
CUT_AGE = Gauge("pointsman_cut_age_seconds", "Time since the last cut was committed")
COMMIT_DURATION = Histogram(
    "pointsman_commit_duration_seconds", "One commit of a cut, answer included", buckets=_TURN_EDGES
)
CASCADE_DEPTH = BatchHistogram(
    "pointsman_error_cascade_depth", "Distinct agents that failed in one task", buckets=(0, 1, 2, 3, 4, 5, 8)
)

# Host
HOST_ATTEMPTS = Counter("pointsman_host_attempts", "Attempts that agents ended", ("agent", "outcome"))
HOST_ATTEMPT_DURATION = Histogram(
    "pointsman_host_attempt_duration_seconds", "One call of an agent", ("agent",), buckets=_ATTEMPT_EDGES
)
HOST_SUMMARIES = Counter(
    "pointsman_host_summaries",
    "Summaries that models were asked for",
    ("agent", "outcome"),
)
HOST_SNAPSHOTS_REFUSED = Counter(
    "pointsman_host_snapshots_refused",
    "Snapshots of an agent's memory that were not trusted",
    ("reason",),
)
HOST_INFLIGHT = Gauge("pointsman_host_inflight", "Attempts running or waiting for their turn")

# Store
HISTORY_ROWS = Counter("pointsman_history_rows", "Rows inserted", ("table",))
HISTORY_INSERT_DURATION = Histogram(
    "pointsman_history_insert_duration_seconds", "One insert, answer included", ("table",), buckets=_INSERT_EDGES
)
HISTORY_LAG = Gauge("pointsman_history_lag_seconds", "Age of the oldest record read and not yet in the history")

# Worker and store, with a schema registry of the producers' own
SCHEMA_LOOKUPS = Counter("pointsman_schema_lookups", "Schema ids asked of the producers' registry", ("outcome",))
RECORDS_HELD = Gauge(
    "pointsman_records_held", "Submissions that wait until the registry says what their schema id means"
)

# All
AGENT_PAUSED = Gauge("pointsman_agent_paused", "1 while a person has paused or retired an agent", ("agent",))
TOPIC_PAUSED = Gauge("pointsman_topic_paused", "1 while a topic is paused, and so not read", ("topic",))
READY = Gauge("pointsman_ready", "1 once the process serves")
CONSUMER_LAG = Gauge("pointsman_consumer_lag_records", "Records appended and not yet read", ("topic", "partition"))
ERRORS = Counter("pointsman_errors", "Errors caught and survived", ("component",))


@cache
def counter(metric: Counter, *labels: str) -> Counter:
    """The series of these labels, in the metric's own order: the library looks at locks and environment for each."""
    return metric.labels(*labels)


# Mappings do not vary in their keys: this takes plain tuples and TopicPartitions alike.
TP = TypeVar("TP", bound=tuple[str, int])

# How often lag is shown: what it takes is local, but of hundreds of partitions.
MEASURE_S = 2.0


def show_lag(behind: Mapping[TP, int]) -> None:
    """Records not yet read, by topic and partition."""
    for (topic, partition), records in behind.items():
        CONSUMER_LAG.labels(topic=topic, partition=partition).set(records)


def configure_logging(level: str = "info", *, process: str) -> None:
    """One JSON object a line on stderr: at, level, process, event, and the fields given. Standard loggers join in."""

    def name_process(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {**event, "process": process}

    shared: list[Any] = [
        name_process,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    # The real stderr: Faust puts its own object in the place of sys.stderr.
    handler = logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose calls take fields: `log.info("cut committed", partitions=4)`."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger

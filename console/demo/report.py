"""What happened in the demo, as tables for a person.

I/O: ClickHouse, stdout.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from console.cli.history import print_table
from console.cli.output import Format, Output
from console.cli.show import tree_of
from loadtest.audit_log import Log
from streams.client import Result
from streams.history.lives import life
from streams.history.queries import History

TABLES = {
    "Why agents were asked": """
        SELECT intent AS route, reason, count() AS dispatches, arraySort(groupUniqArray(agent_id)) AS agents
        FROM dispatches GROUP BY route, reason ORDER BY route, dispatches DESC""",
    "Cascades: who could not, and why the next was asked": """
        SELECT agent_id AS agent, reason, count() AS times
        FROM cascades GROUP BY agent, reason ORDER BY times DESC, agent""",
    "Panels": """
        SELECT intent AS route, status, reason, count() AS panels, round(avg(length(votes)), 1) AS mean_votes,
            countIf(notEmpty(dissent)) AS with_dissent
        FROM results WHERE notEmpty(votes) GROUP BY route, status, reason ORDER BY route, panels DESC""",
    "What the orchestrator noted": """
        SELECT kind, reason, count() AS events
        FROM orchestrator_events WHERE task_id != '' GROUP BY kind, reason ORDER BY kind, events DESC""",
    "Dead letters: records that are no tasks": """
        SELECT reason, origin_topic AS topic, component, count() AS records, any(detail) AS for_example
        FROM dead GROUP BY reason, topic, component ORDER BY reason""",
}

QUESTION = """SELECT agent_id, count() AS attempts, countIf(kind = 'COMPLETED') AS answered, \
round(avg(confidence), 2) AS confidence, \
round(quantileExact(0.5)(toFloat64(finished_at - started_at) * 1000), 2) AS p50_ms \
FROM agent_events WHERE kind IN ('COMPLETED', 'FAILED', 'REFUSED') \
GROUP BY agent_id ORDER BY attempts DESC, agent_id"""

# The panel with the richest life that agreed in the end: most agents, most cascades, most events.
STORY = """SELECT tenant, task_id FROM task_timeline
    GROUP BY tenant, task_id
    ORDER BY countIf(status = 'COMPLETED' AND reason = 'CONSENSUS') DESC,
        uniqExactIf(agent_id, kind = 'DISPATCHED') DESC, countIf(kind = 'CASCADED') DESC, count() DESC, task_id
    LIMIT 1"""


def print_report(results: Sequence[Result], log: Log, history: History, out: Output) -> None:
    """Tables, one task's life, and one question with its answer. Raises QueryError, UnreachableError."""
    _print_results(results, out)
    _print_latency(results, out)
    for title, sql in TABLES.items():
        _print_query(title, sql, history, out)
    _print_duplicates(log, out)
    [(tenant, task_id), *_] = history.query(STORY).rows
    out.line()
    out.line(f"One task's life (pointsman task show {task_id})")
    out.tree(tree_of(life(history, history.timeline(task_id, tenant))))
    out.line()
    out.line(f'One question (pointsman history "{QUESTION}")')
    print_table(history.query(QUESTION), Format.TABLE, out)


def _print_query(title: str, sql: str, history: History, out: Output) -> None:
    out.line()
    answer = history.query(sql)
    if answer.rows:
        print_table(answer, Format.TABLE, out, title)
    else:
        out.line(f"{title}: none")


def _print_results(results: Sequence[Result], out: Output) -> None:
    counts = Counter((result.intent or "-", result.status, result.reason) for result in results)
    rows = [(*what, count) for what, count in sorted(counts.items())]
    out.line()
    out.table(("route", "status", "reason", "tasks"), rows, "What became of the tasks")


def _print_latency(results: Sequence[Result], out: Output) -> None:
    by_status: dict[str, list[float]] = defaultdict(list)
    for result in results:
        if result.ms is not None:
            for status in (result.status, "all"):
                by_status[status].append(result.ms)
    names = [*sorted(by_status.keys() - {"all"}), "all"]
    rows = [
        (name, len(by_status[name]), *(round(percentile(by_status[name], share), 1) for share in (0.5, 0.99)))
        for name in names
        if by_status[name]
    ]
    out.line()
    out.table(("status", "tasks", "p50_ms", "p99_ms"), rows, "From submission to decision")


def _print_duplicates(log: Log, out: Output) -> None:
    times = Counter(submission[:2] for submission in log.submissions)
    again = [count - 1 for count in times.values() if count > 1]
    answered = Counter(end[:2] for end in log.results)
    second = sum(1 for key, count in times.items() if count > 1 and answered[key] > 1)
    out.line()
    out.table(
        ("tasks", "submitted_again", "second_results"), [(len(again), sum(again), second)], "Duplicate submissions"
    )


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

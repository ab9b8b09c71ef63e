"""`pointsman dlq redrive`: dead letters go back to where they came from, slowly, each once, and each with a reason.

I/O: Kafka, ClickHouse, the clock, standard input, stdout, stderr.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import TextIO

from console.cli.confirm import confirm
from console.cli.deployment import Deployment
from console.cli.failures import ExitCode, UsageError
from console.cli.history import opened as history_opened
from console.cli.output import Format, Output, Row
from console.cli.progress import Progress
from console.dlq.bodies import Body
from console.dlq.judging import Judge, TaskKey, Verdict, totals
from console.dlq.opened import READ_AT_ONCE, Opened, in_groups, opened
from console.dlq.rows import told
from console.dlq.selection import Selection, id_of, no_letter
from schemas.codes import ErrorCode
from schemas.errors import UnreachableError
from schemas.redrive import DEADLINE, Rules, redriven_headers
from streams.transport.dead_topic import Letter, Markers
from streams.transport.redriver import Redriver, Return

TOGETHER_MAX = 200
"""Records in one transaction: while it is open, readers of their partitions wait."""

EACH_SHOWN_MAX = 20
COLUMNS = ("id", "outcome", "origin_topic", "reason", "refusal", "why")
GROUP_COLUMNS = ("origin_topic", "reason", "outcome", "refusal", "letters")


@dataclass(frozen=True, slots=True)
class Options:
    """The flags of the command. `redrives_max` None: the topology's."""

    dry_run: bool = False
    yes: bool = False
    rate: int = 100
    limit: int = 10_000
    redrives_max: int | None = None
    force: bool = False
    again: bool = False
    deadline_in_ms: int | None = None
    check_answers: bool = True
    everything: bool = False


def redrive(
    deployment: Deployment,
    ids: Sequence[str],
    selection: Selection,
    options: Options,
    *,
    form: Format,
    out: Output,
    answers: TextIO | None = None,
) -> ExitCode:
    """Judges, shows, asks where a person can answer, and sends; FAILED where any is refused.

    Raises UsageError where nothing is selected or nobody can be asked, NotFoundError for an id that is none,
    UnreachableError, RedriveError.
    """
    places = [id_of(text) for text in ids]
    _require_a_choice(places, selection, options)
    with ExitStack() as stack:
        # Before the topic is read: whoever redrives already is fenced, and all that it has marked is seen.
        redriver = None if options.dry_run else stack.enter_context(Redriver(deployment.settings, deployment.topology))
        dead = stack.enter_context(opened(deployment))
        job = _Job(dead, places, selection, options)
        verdicts = job.judged()
        counts = totals(verdicts)
        if redriver is None:
            _print([each.row("refused" if each.refusal else "planned") for each in verdicts], form, out)
            out.note(_summary(counts, "would be redriven"))
            return ExitCode.OK
        if counts["goes"] and not options.yes:
            _ask(verdicts, counts, out, answers or sys.stdin)
        rows = [each.row("refused") for each in verdicts if each.refusal]
        if form is Format.JSONL:
            out.records(rows, COLUMNS, form)
        rows += list(_sent(job, redriver, verdicts, form, out))
        if form is not Format.JSONL:
            _print(rows, form, out)
    out.note(_summary(counts, "redriven"))
    if counts["goes"]:
        out.note('`pointsman history "select * from redriven order by at desc limit 20"` tells what became of them.')
    return ExitCode.FAILED if counts["refused"] else ExitCode.OK


def _require_a_choice(places: Sequence[tuple[int, int]], selection: Selection, options: Options) -> None:
    asks = not selection.asks_nothing
    if bool(places) + asks + options.everything != 1:
        raise UsageError(
            "Say which dead letters go back: their ids, or filters such as --reason or --since, or --all; one of these."
            " `pointsman dlq list` shows what there is, and --dry-run what would happen.",
            code=ErrorCode.NO_LETTERS_CHOSEN,
        )


class _Job:
    """The letters that are meant, as often as they are asked for: too many and too large to be held."""

    def __init__(self, dead: Opened, places: Sequence[tuple[int, int]], selection: Selection, options: Options) -> None:
        self._dead, self._places, self._selection, self.options = dead, places, selection, options
        topology = dead.deployment.topology
        redrives_max = topology.limits.redrives_max if options.redrives_max is None else options.redrives_max
        rules = Rules.of(topology.topics(), redrives_max, force=options.force, again=options.again)
        asked = self._answered if options.check_answers else None
        self._judge = Judge(rules, time.time_ns() // 1_000_000, asked, options.deadline_in_ms)

    def judged(self) -> list[Verdict]:
        """What is decided of each, as far as `limit` goes. Of a selection, those that were redriven are left out."""
        markers, letters = self._meant()
        if not self._places and not self.options.again:
            letters = (letter for letter in letters if not markers.of(letter))
        found: list[Verdict] = []
        for group in in_groups(islice(letters, self.options.limit), READ_AT_ONCE):
            bodies: list[Body] = self._dead.bodies.read(group)
            pairs = list(zip(group, bodies, strict=True))
            found += self._judge.verdicts(pairs, lambda letter: bool(markers.of(letter)))
        return found

    def returns(self, verdicts: Iterable[Verdict]) -> Iterator[tuple[Verdict, Return]]:
        """Those that go, as they go."""
        going = {each.letter_id: each for each in verdicts if each.refusal is None}
        _, letters = self._meant()
        for letter in letters:
            verdict, origin = going.get(letter.id), letter.said.origin
            if verdict is None or origin is None:
                continue
            changed = verdict.deadline_ms is not None
            value = self._dead.bodies.with_deadline(letter, verdict.deadline_ms or 0) if changed else letter.value
            yield (
                verdict,
                Return(
                    origin,
                    letter.key,
                    value,
                    redriven_headers(letter.headers, letter.said.attempt),
                    letter.said.attempt,
                    letter.partition,
                    letter.offset,
                    DEADLINE if changed else "",
                ),
            )

    def _meant(self) -> tuple[Markers, Iterator[Letter]]:
        if not self._places:
            markers, found = self._dead.select(self._selection)
            return markers, (letter for letter, _ in found)
        first: dict[int, int] = {}
        for partition, offset in self._places:
            first[partition] = min(offset, first.get(partition, offset))
        known = self._dead.topic.marks
        markers = self._dead.topic.markers(
            {number: max(at, known[number][0]) for number, at in first.items() if number in known}
        )
        return markers, self._named()

    def _named(self) -> Iterator[Letter]:
        for partition, offset in dict.fromkeys(self._places):
            letter = self._dead.topic.letter(partition, offset)
            if letter is None:
                raise no_letter(f"{partition}:{offset}", self._dead.topic.name)
            yield letter

    def _answered(self, tasks: Sequence[TaskKey]) -> set[TaskKey]:
        try:
            with history_opened(self._dead.deployment.settings) as history:
                return history.answered(tasks)
        except UnreachableError as error:
            hint = (
                "It tells which tasks have a result by now: one that was submitted again would be answered twice. "
                "Start the store, or pass --no-check-answers where you know that none was."
            )
            raise UnreachableError(
                error.service, error.address, error.why, hint, code=ErrorCode.NO_CLICKHOUSE
            ) from error


def _sent(job: _Job, redriver: Redriver, verdicts: Sequence[Verdict], form: Format, out: Output) -> Iterator[Row]:
    """Sends group by group at the rate that is asked for."""
    going = sum(each.refusal is None for each in verdicts)
    options = job.options
    together, done, due = max(1, min(TOGETHER_MAX, options.rate)), 0, time.monotonic()
    with Progress(out, "redriven", going, shown=form is not Format.JSONL) as progress:
        returns = job.returns(verdicts)
        while group := list(islice(returns, together)):
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic()) + len(group) / options.rate
            offsets = redriver.send([each for _, each in group], time.time_ns() // 1_000_000)
            done += len(group)
            progress.at(done)
            rows = [verdict.row("redriven", at) for (verdict, _), at in zip(group, offsets, strict=True)]
            if form is Format.JSONL:
                out.records(rows, COLUMNS, form)
            yield from rows


def _ask(verdicts: Sequence[Verdict], counts: Mapping[str, int], out: Output, answers: TextIO) -> None:
    """Raises UsageError unless somebody says yes."""

    def show() -> None:
        shown = Output(out.err, out.err)
        _print([each.row("refused" if each.refusal else "goes back") for each in verdicts], Format.TABLE, shown)
        out.note(_summary(counts, "go back"))

    nobody = "Nobody can be asked here: look at what --dry-run says, then pass --yes."
    confirm("Redrive them?", nobody=nobody, no="Nothing was redriven.", out=out, answers=answers, show=show)


def _print(rows: Sequence[Row], form: Format, out: Output) -> None:
    """Each letter for a program; for a person a few of them, or counts of many."""
    if form is not Format.TABLE or len(rows) <= EACH_SHOWN_MAX:
        out.records(rows, COLUMNS, form)
        return
    counts = Counter(tuple(row[name] for name in GROUP_COLUMNS[:-1]) for row in rows)
    ranked = sorted(counts.items(), key=lambda each: (-each[1], str(each[0])))
    out.table(GROUP_COLUMNS, [[*kind, count] for kind, count in ranked])


def _summary(counts: Mapping[str, int], verb: str) -> str:
    parts = [f"{told(counts['goes'], 'dead letter')} {verb}"]
    if counts["changed"]:
        parts.append(f"{counts['changed']} with another deadline")
    if counts["late"]:
        parts.append(f"{counts['late']} past their deadline, to end as EXPIRED: --deadline-in gives them time")
    if counts["refused"]:
        parts.append(f"{counts['refused']} refused")
    if counts["before"]:
        parts.append(f"{counts['before']} redriven before: --again sends them once more")
    return "; ".join(parts) + "."

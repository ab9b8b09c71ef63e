"""Which of the dead letters that are meant go back, and why the others do not.

I/O: ClickHouse, for the tasks that have a result already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from console.cli.output import Row
from console.dlq.bodies import SUBMISSION, Body
from schemas.redrive import DEADLINE, Refusal, Rules
from streams.transport.dead_topic import Letter

TaskKey = tuple[str, str]  # tenant, task id


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is decided of a letter. `deadline_ms`: the deadline that it gets; `is_late`: its own is over."""

    letter_id: str
    origin_topic: str | None
    origin_partition: int | None
    origin_offset: int | None
    reason: str
    attempt: int
    tenant: str | None
    task_id: str | None
    refusal: Refusal | None = None
    why: str | None = None
    deadline_ms: int | None = None
    is_late: bool = False

    def row(self, outcome: str, to_offset: int | None = None) -> Row:
        return {
            "id": self.letter_id,
            "outcome": outcome,
            "origin_topic": self.origin_topic,
            "origin_partition": self.origin_partition,
            "origin_offset": self.origin_offset,
            "reason": self.reason or None,
            "attempt": self.attempt,
            "tenant": self.tenant,
            "task_id": self.task_id,
            "refusal": None if self.refusal is None else str(self.refusal),
            "why": self.why,
            "changed": None if self.deadline_ms is None else DEADLINE,
            "to_offset": to_offset,
        }


class Judge:
    """`answered` says which tasks have a result; None: nobody is asked. `deadline_in_ms`: time that tasks get at least.

    `rules.force` overrules the loop guard, that a letter would be put away again, and that its task has a result.
    """

    def __init__(
        self,
        rules: Rules,
        now_ms: int,
        answered: Callable[[Sequence[TaskKey]], set[TaskKey]] | None,
        deadline_in_ms: int | None = None,
    ) -> None:
        self._rules, self._now_ms = rules, now_ms
        self._answered, self._deadline_in_ms = answered, deadline_in_ms

    def verdicts(self, letters: Sequence[tuple[Letter, Body]], is_redriven: Callable[[Letter], bool]) -> list[Verdict]:
        """One for each letter, in order. Raises UnreachableError where the history does not answer."""
        found = [self._of(letter, body, is_redriven=is_redriven(letter)) for letter, body in letters]
        if self._answered is None or self._rules.force:
            return found
        asked = [
            (each.tenant, each.task_id)
            for each, (_, body) in zip(found, letters, strict=True)
            if each.refusal is None and body.record == SUBMISSION and each.tenant and each.task_id
        ]
        ended = self._answered(asked) if asked else set()
        return [
            _answered(each) if (each.tenant, each.task_id) in ended and not each.refusal else each for each in found
        ]

    def _of(self, letter: Letter, body: Body, *, is_redriven: bool) -> Verdict:
        refusal = self._rules.refusal(letter.said, is_redriven=is_redriven)
        if refusal is None and body.fault is not None and not self._rules.force:
            why = f"it would be put away again: {body.fault.reason}, {body.fault.detail}"
            refusal = Refusal.STILL_INVALID, why
        deadline_ms, is_late = self._deadline(body)
        origin, (tenant, task_id) = letter.said.origin, body.task
        return Verdict(
            letter.id,
            origin.topic if origin else None,
            origin.partition if origin else None,
            origin.offset if origin else None,
            letter.said.reason,
            letter.said.attempt,
            tenant,
            task_id,
            refusal=refusal[0] if refusal else None,
            why=refusal[1] if refusal else None,
            deadline_ms=None if refusal else deadline_ms,
            is_late=is_late and not refusal,
        )

    def _deadline(self, body: Body) -> tuple[int | None, bool]:
        """The deadline that a submission gets, None where it keeps its own; and whether the one it has is over.

        Without one of its own it gets its route's, from the moment in which it is read at last.
        """
        stated = (body.fields or {}).get(DEADLINE)
        if body.record != SUBMISSION or body.fault is not None or not isinstance(stated, int):
            return None, False
        if self._deadline_in_ms is not None and stated < self._now_ms + self._deadline_in_ms:
            return self._now_ms + self._deadline_in_ms, False
        return None, stated <= self._now_ms


def _answered(verdict: Verdict) -> Verdict:
    why = "its task has a result: it was submitted again meanwhile"
    return replace(verdict, refusal=Refusal.HAS_RESULT, why=why, deadline_ms=None, is_late=False)


def totals(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How many go, go late, go changed, were redriven before, and are refused for another reason."""
    counts = dict.fromkeys(("goes", "late", "changed", "before", "refused"), 0)
    for each in verdicts:
        if each.refusal is None:
            counts["goes"] += 1
            counts["late"] += each.is_late
            counts["changed"] += each.deadline_ms is not None
        elif each.refusal is Refusal.REDRIVEN:
            counts["before"] += 1
        else:
            counts["refused"] += 1
    return counts

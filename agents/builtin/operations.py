"""Three agents for people who run machines: one counts log lines, one converts units, one carries out runbooks.

What the runbook agent does to a service is simulated: its change ticket is all that comes of it. I/O: reads
data/services.log once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import NamedTuple

from agents.builtin.faults import batch_with_faults, with_faults
from agents.contract import AgentFailed, AgentRefused, AgentWrongInput, Answer, Context, Task
from schemas.ids import fact_id

DATA = Path(__file__).parent / "data"
SOURCE = "services.log"
SURE, FAIR, DOUBTFUL = 0.97, 0.8, 0.5

LEVELS = {
    "ERROR": ("error", "errors", "failing", "failures", "failed"),
    "WARN": ("warning", "warnings", "warn", "slow"),
}


class Line(NamedTuple):
    """One line of the log."""

    at: str
    level: str
    service: str
    message: str


@cache
def lines() -> tuple[Line, ...]:
    text = (DATA / SOURCE).read_text("utf-8")
    return tuple(Line(*line.split(" ", 3)) for line in text.splitlines())


@cache
def services() -> tuple[str, ...]:
    return tuple(sorted({line.service for line in lines()}))


def _logs(text: str) -> Answer:
    """Counts log lines by service, level and hour, and shows the last of them."""
    lower = text.lower()
    if not re.search(r"\b(logs?|log lines?|errors?|warnings?|failing|failures?|outage|slow|stack trace)\b", lower):
        raise AgentRefused("the logs agent answers questions about log lines")
    if re.search(r"\b(restart|roll back|drain|runbook)\b", lower):
        raise AgentRefused("the logs agent reads, and changes nothing")
    level = next((name for name, words in LEVELS.items() if any(re.search(rf"\b{w}\b", lower) for w in words)), "")
    named = [name for name in services() if re.search(rf"\b{name}\b", lower)]
    unknown = re.search(r"\b(?:in|of|from) (?:the )?(\w+) (?:service|server|logs?)\b", lower)
    if unknown and unknown.group(1) not in services():
        return Answer(f"There is no service {unknown.group(1)} in the log.", 0.3, citations=(SOURCE,))
    found = [line for line in lines() if (not level or line.level == level) and (not named or line.service in named)]
    kind = {"ERROR": "errors", "WARN": "warnings"}.get(level, "lines")
    if not named:
        by_service = Counter(line.service for line in found).most_common()
        worst = ", ".join(f"{name} {n}" for name, n in sorted(by_service, key=lambda pair: (-pair[1], pair[0])))
        return Answer(f"{len(found)} {kind}: {worst}.", FAIR, f"{kind}={len(found)}", citations=(SOURCE,))
    where = " and ".join(named)
    last = f' The last: "{found[-1].message}" at {found[-1].at}.' if found else ""
    return Answer(
        f"{len(found)} {kind} in {where}.{last}", SURE, f"{kind} {where}={len(found)}", citations=(f"{SOURCE}#{where}",)
    )


# Factor to the base unit of each kind.
_FACTORS: dict[str, tuple[str, Fraction]] = {
    **dict.fromkeys(("km", "kilometre", "kilometer"), ("length", Fraction(1000))),
    **dict.fromkeys(("m", "metre", "meter"), ("length", Fraction(1))),
    **dict.fromkeys(("cm", "centimetre", "centimeter"), ("length", Fraction(1, 100))),
    **dict.fromkeys(("mi", "mile"), ("length", Fraction("1609.344"))),
    **dict.fromkeys(("ft", "foot", "feet"), ("length", Fraction("0.3048"))),
    **dict.fromkeys(("in", "inch", "inche"), ("length", Fraction("0.0254"))),
    **dict.fromkeys(("kg", "kilogram"), ("mass", Fraction(1000))),
    **dict.fromkeys(("g", "gram"), ("mass", Fraction(1))),
    **dict.fromkeys(("lb", "pound"), ("mass", Fraction("453.59237"))),
    **dict.fromkeys(("oz", "ounce"), ("mass", Fraction("28.349523125"))),
    **dict.fromkeys(("l", "litre", "liter"), ("volume", Fraction(1))),
    **dict.fromkeys(("gal", "gallon"), ("volume", Fraction("3.785411784"))),
    **dict.fromkeys(("kib",), ("data", Fraction(1024))),
    **dict.fromkeys(("mib",), ("data", Fraction(1024**2))),
    **dict.fromkeys(("gib",), ("data", Fraction(1024**3))),
    **dict.fromkeys(("mb", "megabyte"), ("data", Fraction(10**6))),
    **dict.fromkeys(("gb", "gigabyte"), ("data", Fraction(10**9))),
    **dict.fromkeys(("h", "hour"), ("time", Fraction(3600))),
    **dict.fromkeys(("min", "minute"), ("time", Fraction(60))),
    **dict.fromkeys(("s", "second"), ("time", Fraction(1))),
}
_TO_KELVIN: dict[str, Callable[[Fraction], Fraction]] = {
    "celsius": lambda x: x + Fraction("273.15"),
    "fahrenheit": lambda x: (x - 32) * Fraction(5, 9) + Fraction("273.15"),
    "kelvin": lambda x: x,
}
_FROM_KELVIN: dict[str, Callable[[Fraction], Fraction]] = {
    "celsius": lambda x: x - Fraction("273.15"),
    "fahrenheit": lambda x: (x - Fraction("273.15")) * Fraction(9, 5) + 32,
    "kelvin": lambda x: x,
}
_TEMPERATURES = {"c": "celsius", "f": "fahrenheit", "k": "kelvin"}
_NUMBER = r"(-?\d+(?:[.,]\d+)*)"
_DIGITS_MAX = 30


def _units(text: str) -> Answer:
    """Converts a quantity from one unit to another, exactly."""
    lower = text.lower().replace("degrees ", "").replace("°", "")
    found = re.search(rf"{_NUMBER}\s*([a-z]+)\s+(?:to|in|into|as)\s+([a-z]+)", lower)
    if found:
        number, source, target = found.groups()
    elif reverse := re.search(rf"how many ([a-z]+) (?:are|is|in|make)(?: there in)?\s+{_NUMBER}\s*([a-z]+)", lower):
        target, number, source = reverse.groups()
    elif re.search(r"\bconvert\b", lower):
        raise AgentWrongInput('a conversion reads like "convert 5 km to miles"')
    else:
        raise AgentRefused("the units agent converts units alone")
    plain = number.replace(",", "")
    if len(plain) > _DIGITS_MAX or plain.count(".") > 1:
        raise AgentWrongInput("this is no number")
    value = converted(Fraction(plain), source, target)
    shown = f"{float(value):.6g}"
    return Answer(f"{number} {source} = {shown} {target}", 0.99, f"{shown} {_unit(target)}", citations=("SI brochure",))


def converted(value: Fraction, source: str, target: str) -> Fraction:
    """Raises AgentWrongInput for units of different kinds, AgentFailed for one that is not known here."""
    source, target = _unit(source), _unit(target)
    if source in _TO_KELVIN and target in _TO_KELVIN:
        return _FROM_KELVIN[target](_TO_KELVIN[source](value))
    for unit in (source, target):
        if unit not in _FACTORS and unit not in _TO_KELVIN:
            raise AgentFailed(f"I do not know the unit {unit}")
    if source in _TO_KELVIN or target in _TO_KELVIN or _FACTORS[source][0] != _FACTORS[target][0]:
        raise AgentWrongInput(f"{source} and {target} measure different things")
    return value * _FACTORS[source][1] / _FACTORS[target][1]


def _unit(name: str) -> str:
    name = _TEMPERATURES.get(name, name)
    return name if name in _FACTORS or name in _TO_KELVIN else name.removesuffix("s")


ACTIONS = {
    "restart": ("drain connections", "stop", "start", "check health"),
    "roll back": ("find the release before", "deploy it", "check health"),
    "drain": ("take out of rotation", "wait for open requests"),
}


def _runbook(task: Task, _: Context) -> Answer:
    """Carries out the runbook of a service, and leaves a change ticket."""
    lower = task.text.lower()
    action = next((name for name in ACTIONS if re.search(rf"\b{name}\b", lower)), "")
    if not action:
        raise AgentRefused("there is a runbook for " + ", ".join(ACTIONS))
    named = [name for name in services() if re.search(rf"\b{name}\b", lower)]
    if not named:
        raise AgentFailed("no service of ours is named; nothing was done")
    if len(named) > 1:
        raise AgentWrongInput("one service at a time")
    (service,) = named
    # Under the same key the same ticket: whoever reads it can tell that nothing was done twice.
    ticket = f"CHG-{fact_id(task.idempotency_key, action, service)[:8].upper()}"
    steps = ACTIONS[action]
    return Answer(
        f"{action.capitalize()} of {service}: done in {len(steps)} steps, ticket {ticket}.",
        SURE,
        vote_key=f"{action} {service}",
        payload={"ticket": ticket, "service": service, "action": action, "steps": list(steps)},
        citations=(f"runbook#{action.replace(' ', '-')}",),
        facts=(f"{service} was changed under {ticket}",),
    )


logs = batch_with_faults(_logs)
units = batch_with_faults(_units)
runbook = with_faults(_runbook)

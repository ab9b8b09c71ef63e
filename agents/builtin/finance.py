"""Three agents over the same sales figures, each with its own means: so they can disagree, and mostly do not.

`revenue` adds up lines, `sql` asks a real SQL engine, `spreadsheet` works on a grid of quarters and regions. What they
find has one name (`vote_key`), so that they can sit in one panel. I/O: reads the figures once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from fractions import Fraction
from functools import cache

from agents.builtin.faults import with_faults
from agents.builtin.figures import SOURCE, Question, parse, sales, years
from agents.contract import AgentRefused, Answer, Context, Task

SURE, ASSUMED, VAGUE, UNKNOWN = 0.95, 0.88, 0.6, 0.3

MONEY = frozenset({"revenue", "cost", "profit"})
_SQL = {
    "revenue": "sum(revenue)",
    "cost": "sum(cost)",
    "profit": "sum(revenue) - sum(cost)",
    "orders": "sum(orders)",
    "margin": "1.0 * (sum(revenue) - sum(cost)) / sum(revenue)",
}
_FORMULA: dict[str, Callable[[int, int, int], Fraction]] = {
    "revenue": lambda revenue, _cost, _orders: Fraction(revenue),
    "cost": lambda _revenue, cost, _orders: Fraction(cost),
    "profit": lambda revenue, cost, _orders: Fraction(revenue - cost),
    "orders": lambda _revenue, _cost, orders: Fraction(orders),
    "margin": lambda revenue, cost, _orders: Fraction(revenue - cost, revenue),
}


def _revenue(task: Task, _: Context) -> Answer:
    """Revenue, margin and growth by region and quarter."""
    question = _question(task, "revenue agent", {"revenue", "margin", "growth", "profit"})
    if question.average or question.best or question.worst:
        return _doubtful(question, "averages and rankings are not among what I add up", VAGUE)
    return _answer(question, _total, sure=SURE, assumed=0.9)


def _sql(task: Task, _: Context) -> Answer:
    """Totals, growth and rankings, by SQL."""
    question = _question(task, "SQL agent", {*_SQL, "growth"})
    if question.best or question.worst:
        return _ranking(question)
    if question.average:
        return _doubtful(question, "I have no query for averages", VAGUE)
    return _answer(question, _selected, sure=0.93, assumed=ASSUMED)


def _spreadsheet(task: Task, _: Context) -> Answer:
    """Totals, averages and margins over the sheet."""
    question = _question(task, "spreadsheet agent", {*_FORMULA, "growth"})
    if question.best or question.worst:
        return _doubtful(question, "the sheet ranks nothing", VAGUE)
    return _answer(question, _over_grid, sure=0.9, assumed=0.85)


revenue = with_faults(_revenue)
sql = with_faults(_sql)
spreadsheet = with_faults(_spreadsheet)


def _question(task: Task, who: str, metrics: set[str]) -> Question:
    question = parse(task.text)
    if question is None:
        raise AgentRefused(f"the {who} answers questions about sales figures")
    if question.metric and question.metric not in metrics:
        raise AgentRefused(f"the {who} has no figures on {question.metric}")
    return question


def _answer(question: Question, value_of: Callable[[Question], Fraction], *, sure: float, assumed: float) -> Answer:
    if question.strange:
        return _doubtful(question, f"{', '.join(question.strange)} is no region or product of ours", UNKNOWN)
    wanted = _years(question)
    if wanted - set(years()):
        return _doubtful(question, f"there are figures from {years()[0]} to {years()[-1]} only", UNKNOWN)
    confidence = sure if question.year_is_given else assumed
    if not question.metric:
        question, confidence = _with_metric(question, "revenue"), VAGUE
    value = value_of(question)
    return Answer(
        _sentence(question, value),
        confidence,
        vote_key=_vote_key(question, value),
        payload={"metric": question.metric, "period": question.period, "value": round(float(value), 4)},
        citations=tuple(f"{SOURCE}#{year}" for year in sorted(wanted)),
    )


def _doubtful(question: Question, why: str, confidence: float) -> Answer:
    return Answer(f"I do not know: {why}.", confidence, vote_key=f"unknown {question.metric}", citations=(SOURCE,))


def _years(question: Question) -> set[int]:
    return {question.year, question.year - 1} if question.metric == "growth" else {question.year}


def _with_metric(question: Question, metric: str) -> Question:
    return Question(**{**vars(question), "metric": metric})


def _before(question: Question) -> Question:
    return Question(**{**vars(question), "year": question.year - 1, "metric": "revenue"})


def _total(question: Question) -> Fraction:
    """Over the lines of the sheet."""
    if question.metric == "growth":
        return _total(_with_metric(question, "revenue")) / _total(_before(question)) - 1
    lines = [sale for sale in sales() if question.takes(sale)]
    columns = zip(*((sale.revenue, sale.cost, sale.orders) for sale in lines), strict=True)
    return _FORMULA[question.metric](*map(sum, columns))


def _over_grid(question: Question) -> Fraction:
    """Over cells of a quarter and a region each; an average is over the quarters."""
    if question.metric == "growth":
        return _over_grid(_with_metric(question, "revenue")) / _over_grid(_before(question)) - 1
    grid: dict[tuple[int, str], list[int]] = {}
    for sale in sales():
        if question.takes(sale):
            cell = grid.setdefault((sale.quarter, sale.region), [0, 0, 0])
            for i, number in enumerate((sale.revenue, sale.cost, sale.orders)):
                cell[i] += number
    value = _FORMULA[question.metric](*(sum(cell[i] for cell in grid.values()) for i in range(3)))
    if question.average and question.metric != "margin":
        value /= len({quarter for quarter, _ in grid})
    return value


@cache
def _database() -> sqlite3.Connection:
    # Any thread may ask: it is never written to again.
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("create table sales (year, quarter, region, product, revenue, cost, orders)")
    database.executemany("insert into sales values (?, ?, ?, ?, ?, ?, ?)", sales())
    return database


def _where(question: Question) -> tuple[str, list[object]]:
    clauses: list[str] = ["year = ?"]
    parts: list[tuple[str, tuple[object, ...]]] = [
        ("quarter", question.quarters),
        ("region", question.regions),
        ("product", question.products),
    ]
    arguments: list[object] = [question.year]
    for column, wanted in parts:
        if wanted:
            clauses.append(f"{column} in ({', '.join('?' * len(wanted))})")
            arguments += wanted
    return " and ".join(clauses), arguments


def _selected(question: Question) -> Fraction:
    """By a query."""
    if question.metric == "growth":
        return _selected(_with_metric(question, "revenue")) / _selected(_before(question)) - 1
    where, arguments = _where(question)
    (value,) = _database().execute(f"select {_SQL[question.metric]} from sales where {where}", arguments).fetchone()  # noqa: S608  words of our own; what the task says is bound
    return Fraction(value)


def _ranking(question: Question) -> Answer:
    """The region that has most, or least, of it."""
    metric = question.metric if question.metric in _SQL else "revenue"
    where, arguments = _where(question)
    order = "asc" if question.worst else "desc"
    query = f"select region, {_SQL[metric]} from sales where {where} group by region order by 2 {order} limit 1"  # noqa: S608  as above
    found = _database().execute(query, arguments).fetchone()
    if found is None:
        return _doubtful(question, f"there are figures from {years()[0]} to {years()[-1]} only", UNKNOWN)
    region, value = found
    which = "lowest" if question.worst else "highest"
    return Answer(
        f"{region} had the {which} {metric} in {question.period}: {_shown(metric, Fraction(value))}.",
        SURE if question.year_is_given else ASSUMED,
        vote_key=f"{which} {metric} {question.period}={region}",
        payload={"metric": metric, "period": question.period, "region": region},
        citations=(f"{SOURCE}#{question.year}",),
    )


def _sentence(question: Question, value: Fraction) -> str:
    what = f"Average {question.metric} a quarter" if question.average else question.metric.capitalize()
    return f"{what} of {question.place} in {question.period}: {_shown(question.metric, value)}."


def _shown(metric: str, value: Fraction) -> str:
    if metric in MONEY:
        return f"{round(value):,} USD"
    if metric in {"margin", "growth"}:
        return f"{float(value) * 100:.1f} %"
    return f"{round(value):,}"


def _vote_key(question: Question, value: Fraction) -> str:
    """The same for the same figure, however it was found."""
    is_share = question.metric in {"margin", "growth"}
    kind = "average " if question.average else ""
    figure = f"{float(value):.3f}" if is_share else str(round(value))
    return f"{kind}{question.metric} {question.place} {question.period}={figure}"

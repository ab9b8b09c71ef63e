"""Questions about the sales figures: what is asked for, told from plain English by small rules; and the figures.

I/O: reads data/sales.csv once.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from agents.contract import AgentWrongInput

DATA = Path(__file__).parent / "data"
SOURCE = "sales.csv"

REGIONS = {
    "EMEA": ("emea", "europe", "middle east", "africa"),
    "AMER": ("amer", "americas", "north america", "us", "usa", "united states"),
    "APAC": ("apac", "asia", "asia pacific"),
    "LATAM": ("latam", "latin america", "south america"),
}
METRICS = {
    "growth": ("growth", "grow", "grew", "grown", "year over year", "quarter over quarter"),
    "margin": ("margin", "margins", "gross margin", "profitability"),
    "profit": ("profit", "profits", "earn", "earned", "earnings"),
    "orders": ("orders", "number of orders"),
    "cost": ("cost", "costs", "expenses"),
    "revenue": ("revenue", "revenues", "sales", "turnover"),
}
VAGUE = ("figures", "quarter", "quarterly", "forecast", "numbers", "spreadsheet", "sql", "total")
LAST_QUARTER = 4


class Sale(NamedTuple):
    """One line of the sheet; money in US dollars."""

    year: int
    quarter: int
    region: str
    product: str
    revenue: int
    cost: int
    orders: int


@dataclass(frozen=True)
class Question:
    """`metric` is empty where none is named. Regions, products and quarters are empty where all are meant.

    `best` and `worst` ask for a region, `average` for a mean over quarters. `strange` are names that mean nothing here.
    """

    metric: str
    regions: tuple[str, ...]
    products: tuple[str, ...]
    quarters: tuple[int, ...]
    year: int
    year_is_given: bool
    best: bool
    worst: bool
    average: bool
    strange: tuple[str, ...]

    @property
    def period(self) -> str:
        quarters = "+".join(f"Q{quarter}" for quarter in self.quarters)
        return f"{quarters} {self.year}" if quarters else str(self.year)

    @property
    def place(self) -> str:
        where = " and ".join(self.regions) or "all regions"
        return f"{where}, {' and '.join(self.products)}" if self.products else where

    def takes(self, sale: Sale) -> bool:
        """Whether a line of the sheet belongs to what is asked."""
        return (
            sale.year == self.year
            and (not self.quarters or sale.quarter in self.quarters)
            and (not self.regions or sale.region in self.regions)
            and (not self.products or sale.product in self.products)
        )


@cache
def sales() -> tuple[Sale, ...]:
    with (DATA / SOURCE).open(encoding="utf-8", newline="") as file:
        return tuple(
            Sale(
                int(row["year"]),
                int(row["quarter"].removeprefix("Q")),
                row["region"],
                row["product"],
                int(row["revenue_usd"]),
                int(row["cost_usd"]),
                int(row["orders"]),
            )
            for row in csv.DictReader(file)
        )


@cache
def years() -> tuple[int, ...]:
    return tuple(sorted({sale.year for sale in sales()}))


@cache
def products() -> tuple[str, ...]:
    return tuple(sorted({sale.product for sale in sales()}))


def parse(text: str) -> Question | None:
    """What is asked; None where the text is not about figures. Raises AgentWrongInput for a quarter there never is."""
    lower = text.lower()
    metric = next((name for name, words in METRICS.items() if _has(lower, words)), "")
    if not metric and not _has(lower, VAGUE) and not re.search(r"\bq\d\b", lower):
        return None
    quarters = tuple(sorted({int(found) for found in re.findall(r"\bq(?:uarter )?(\d{1,4})\b", lower)}))
    if any(not 1 <= quarter <= LAST_QUARTER for quarter in quarters):
        raise AgentWrongInput("a year has the quarters Q1 to Q4")
    given = re.findall(r"\b(?:19|20)\d\d\b", lower)
    year = int(given[0]) if given else years()[-1] - (1 if "last year" in lower else 0)
    known = tuple(name for name, words in REGIONS.items() if _has(lower, words))
    return Question(
        metric,
        known,
        tuple(name for name in products() if _has(lower, (name.lower(),))),
        quarters,
        year,
        bool(given) or "last year" in lower,
        _has(lower, ("best", "top", "highest", "most", "largest", "strongest")),
        _has(lower, ("worst", "lowest", "least", "weakest", "smallest")),
        _has(lower, ("average", "mean")),
        _strange(text),
    )


def _has(lower: str, words: tuple[str, ...]) -> bool:
    return any(re.search(rf"\b{re.escape(word)}\b", lower) for word in words)


def _strange(text: str) -> tuple[str, ...]:
    """Names after "for" or "in" that are no region, product, quarter or month of ours."""
    named = re.findall(r"\b(?:for|in|from) (?:the )?([A-Z][A-Za-z-]+)", text)
    known = {word for words in REGIONS.values() for phrase in words for word in phrase.split()}
    known |= {name.lower() for name in products()}
    return tuple(
        name for name in named if name.lower() not in known and not re.fullmatch(r"Q\d+|FY|North|South|Latin", name)
    )

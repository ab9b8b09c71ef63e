"""Three agents over a small library of documents: one finds, one reads a passage out, one sums up.

I/O: reads data/documents.md and data/stopwords.txt once.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from agents.builtin.faults import with_faults
from agents.contract import AgentRefused, Answer, Context, Task

DATA = Path(__file__).parent / "data"

SENTENCES_MAX = 2
BM25_K, BM25_B = 1.4, 0.6
TITLE_WEIGHT = 4
CLEAR_LEAD = 1.3  # how far the best must be ahead of the second to be sure
SURE, FAIR, DOUBTFUL = 0.93, 0.75, 0.45


@dataclass(frozen=True)
class Section:
    """A headed passage."""

    heading: str
    text: str

    @property
    def sentences(self) -> list[str]:
        return re.findall(r"[^.]+(?:\.\d+[^.]*)*\.", self.text)


@dataclass(frozen=True)
class Document:
    """`name` is what citations call it."""

    name: str
    title: str
    sections: tuple[Section, ...]

    @property
    def text(self) -> str:
        return " ".join(f"{section.heading} {section.text}" for section in self.sections)


@cache
def library() -> tuple[Document, ...]:
    text = (DATA / "documents.md").read_text("utf-8")
    documents = []
    for part in re.split(r"^# ", text, flags=re.MULTILINE)[1:]:
        head, *sections = re.split(r"^## ", part, flags=re.MULTILINE)
        name, _, title = head.strip().partition(": ")
        split = [section.strip().partition("\n") for section in sections]
        documents.append(Document(name, title, tuple(Section(head, body.strip()) for head, _, body in split)))
    return tuple(documents)


def words(text: str) -> list[str]:
    """Stems of the words that carry meaning."""
    found = re.findall(r"[a-z0-9]+", text.lower())
    return [_stem(word) for word in found if word not in _stopwords()]


@cache
def _stopwords() -> frozenset[str]:
    """Words that tell no document from another."""
    return frozenset((DATA / "stopwords.txt").read_text("utf-8").split())


def _stem(word: str) -> str:
    for ending in ("ations", "ation", "ings", "ing", "ies", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:  # noqa: PLR2004  shorter stems say nothing
            return word[: -len(ending)]
    return word


@cache
def _index() -> tuple[dict[str, Counter[str]], dict[str, float], float]:
    """Word counts of each document, rarity of each word, mean length."""
    counts = {
        each.name: Counter(words(each.title) * TITLE_WEIGHT + words(each.name) + words(each.text)) for each in library()
    }
    n = len(counts)
    holders = Counter(word for count in counts.values() for word in count)
    rarity = {word: math.log(1 + (n - held + 0.5) / (held + 0.5)) for word, held in holders.items()}
    return counts, rarity, sum(count.total() for count in counts.values()) / n


def ranked(text: str) -> list[tuple[float, Document]]:
    """Documents that share a word with the text, the best first (Okapi BM25)."""
    counts, rarity, mean = _index()
    scored = []
    for document in library():
        count = counts[document.name]
        norm = BM25_K * (1 - BM25_B + BM25_B * count.total() / mean)
        score = sum(
            rarity[word] * count[word] * (BM25_K + 1) / (count[word] + norm) for word in set(words(text)) & count.keys()
        )
        if score > 0:
            scored.append((score, document))
    return sorted(scored, key=lambda pair: (-pair[0], pair[1].name))


def _best(task: Task) -> tuple[Document, float]:
    """The document that fits best, and how sure that is. Raises AgentRefused where none does."""
    found = ranked(task.text)
    if not found:
        raise AgentRefused("nothing in the library is about this")
    (score, document), *others = found
    covered = len(set(words(task.text)) & _index()[0][document.name].keys()) / len(set(words(task.text)))
    ahead = not others or score >= CLEAR_LEAD * others[0][0]
    if covered > 0.5 and ahead:  # noqa: PLR2004  most of what was asked
        return document, SURE
    return document, FAIR if ahead or covered == 1 else DOUBTFUL


def _search(task: Task, _: Context) -> Answer:
    """The documents that fit a question, the best first."""
    document, confidence = _best(task)
    others = [other.title for _, other in ranked(task.text)[1:3]]
    also = f" See also: {'; '.join(others)}." if others else ""
    section = _section(document, task.text)
    return Answer(
        f"{document.title}, section {section.heading}.{also}",
        confidence,
        vote_key=document.name,
        payload={"document": document.name, "section": section.heading},
        citations=(f"{document.name}#{section.heading}",),
    )


def _pdf(task: Task, _: Context) -> Answer:
    """The passage of a document that answers a question, word for word."""
    document, confidence = _best(task)
    section = _section(document, task.text)
    wanted = set(words(task.text)) - set(words(document.title))
    if not wanted & set(words(f"{section.heading} {section.text}")):
        confidence = min(confidence, DOUBTFUL)
    return Answer(
        f'{document.title}, {section.heading}: "{section.text}"',
        confidence,
        vote_key=document.name,
        payload={"document": document.name, "section": section.heading},
        citations=(f"{document.name}#{section.heading}",),
    )


def _summary(task: Task, _: Context) -> Answer:
    """A document's sentences that say most of it."""
    document, confidence = _best(task)
    sentences = [(section, sentence.strip()) for section in document.sections for sentence in section.sentences]
    weight = Counter(words(document.text))
    wanted = set(words(task.text))

    def value(sentence: str) -> float:
        in_it = words(sentence)
        return sum(weight[word] * (2 if word in wanted else 1) for word in in_it) / (len(in_it) + 3)

    best = sorted(range(len(sentences)), key=lambda i: (-value(sentences[i][1]), i))[:SENTENCES_MAX]
    chosen = [sentences[i] for i in sorted(best)]
    return Answer(
        f"{document.title}: {' '.join(sentence for _, sentence in chosen)}",
        min(confidence, 0.85),
        vote_key=document.name,
        payload={"document": document.name, "sentences": len(sentences)},
        citations=tuple(dict.fromkeys(f"{document.name}#{section.heading}" for section, _ in chosen)),
    )


def _section(document: Document, text: str) -> Section:
    """The one that shares most words with the text; a shared heading counts most."""
    wanted = set(words(text))

    def value(section: Section) -> int:
        return 3 * len(wanted & set(words(section.heading))) + len(wanted & set(words(section.text)))

    return max(document.sections, key=value)


search = with_faults(_search)
pdf = with_faults(_pdf)
summary = with_faults(_summary)

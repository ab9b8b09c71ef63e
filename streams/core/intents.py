"""Phrase rules: which intent a text betrays, and how sure one may be of it.

A phrase counts where it stands as whole words: "port" is not in "report", but it is in "port-side". In scripts that
write no spaces between words (Chinese, Japanese, Thai, Korean with its particles, ...) it counts wherever it stands.
Upper and lower case of ASCII letters are one. All texts of a batch are searched in one pass over their bytes, by an
Aho-Corasick automaton that is built once. I/O: none.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ahocorasick_rs import BytesAhoCorasick

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from schemas.topology import Topology

NO_INTENT = -1
SCORE_DECIMALS = 12

# Inclusive ranges of the scripts that write words without spaces between them, or with particles attached.
UNSPACED_SCRIPTS = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1100, 0x11FF),  # Hangul letters
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x9FFF),  # Han, Hiragana, Katakana, Bopomofo, compatibility letters
    (0xA960, 0xA97F),  # Hangul letters, continued
    (0xAC00, 0xD7FF),  # Hangul syllables
    (0xF900, 0xFAFF),  # Han, compatibility
    (0xFF66, 0xFFDC),  # half-width Katakana and Hangul
    (0x1AFF0, 0x1B16F),  # Kana, continued
    (0x20000, 0x3FFFF),  # Han, continued
)

_ASCII_SIZE = 0x80  # a byte from here on is part of a longer character
_ASCII_LOWER = bytes(range(256)).lower()
_JOINS = np.array([chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) == "_") for byte in range(256)])


class Matches(NamedTuple):
    """One element per text: index into `PhraseRules.intents` (-1 for none), and the confidence in it (0 for none)."""

    intent_code: NDArray[np.int32]
    confidence: NDArray[np.float64]


class _Hits(NamedTuple):
    """One element per phrase found: the text's row, the phrase's index, and the byte range within all text bytes."""

    rows: NDArray[np.int64]
    phrases: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class PhraseRules:
    """All phrases of a topology, sorted by intent; build it with `compile`.

    The score of an intent is 1 - prod(1 - c) over its distinct phrases in the text (noisy or, to 12 decimals).
    With b the best score and s the second, the confidence is b * b / (b + s): b where nothing competes, half of it on
    a tie, which goes to the earlier route.
    """

    intents: tuple[str, ...]
    phrases: tuple[str, ...]
    confidences: NDArray[np.float64]
    _intent_of: NDArray[np.int64]
    _joins_left: NDArray[np.bool_]
    _joins_right: NDArray[np.bool_]
    _automaton: BytesAhoCorasick

    @classmethod
    def compile(cls, topology: Topology) -> PhraseRules:
        """Raises ConfigurationError for a blank phrase, and for one that stands in two routes."""
        found: dict[str, tuple[int, float]] = {}
        for code, (intent, route) in enumerate(topology.routes.items()):
            for rule in route.phrases:
                phrase = fold(rule.phrase.strip())
                owner, confidence = found.get(phrase, (code, 0.0))
                if not phrase or owner != code:
                    text = f"routes.{intent}.phrases: {rule.phrase!r} is blank or of another route"
                    raise ConfigurationError(text, code=ErrorCode.PHRASES)
                found[phrase] = (code, max(confidence, rule.confidence))
        phrases = tuple(found)
        return cls(
            intents=tuple(topology.routes),
            phrases=phrases,
            confidences=np.array([confidence for _, confidence in found.values()], dtype=np.float64),
            _intent_of=np.array([code for code, _ in found.values()], dtype=np.int64),
            _joins_left=np.array([joins(phrase[0]) for phrase in phrases], dtype=np.bool_),
            _joins_right=np.array([joins(phrase[-1]) for phrase in phrases], dtype=np.bool_),
            _automaton=BytesAhoCorasick([phrase.encode() for phrase in phrases]),
        )

    def match(self, texts: pa.Array) -> Matches:
        """`texts`: a string array of valid UTF-8; a null matches nothing."""
        matches = Matches(np.full(len(texts), NO_INTENT, dtype=np.int32), np.zeros(len(texts)))
        if not self.phrases or not len(texts):
            return matches
        texts = pc.fill_null(texts.cast(pa.large_string()), "")
        rows, intents, scores = self._scores(self._whole_words(texts, self._find(texts)))
        if not len(rows):
            return matches
        # By row the best score first, and of equal ones the earlier route.
        order = np.lexsort((intents, -scores, rows))
        rows, intents, scores = rows[order], intents[order], scores[order]
        best = np.flatnonzero(np.diff(rows, prepend=-1))
        runner_up = np.minimum(best + 1, len(rows) - 1)
        second = np.where((runner_up != best) & (rows[runner_up] == rows[best]), scores[runner_up], 0.0)
        matches.intent_code[rows[best]] = intents[best]
        matches.confidence[rows[best]] = confidence_of(scores[best], second)
        return matches

    def _find(self, texts: pa.Array) -> _Hits:
        """Every place where a phrase's bytes stand, whole words or not."""
        offsets, data = _offsets(texts), texts.buffers()[2]
        begin, end = int(offsets[0]), int(offsets[-1])
        hay = b"" if data is None else data.slice(begin, end - begin).to_pybytes().lower()  # of bytes: ASCII alone
        hits = self._automaton.find_matches_as_indexes(hay, overlapping=True)
        phrases, starts, ends = np.fromiter(chain.from_iterable(hits), np.int64, 3 * len(hits)).reshape(-1, 3).T
        starts, ends = starts + begin, ends + begin
        # The last text that starts there or before: those that are empty start where their successor does.
        rows = np.searchsorted(offsets, starts, "right") - 1
        within = ends <= offsets[rows + 1]  # else one text's end and the next one's beginning look like a phrase
        return _Hits(rows[within], phrases[within], starts[within], ends[within])

    def _whole_words(self, texts: pa.Array, hits: _Hits) -> _Hits:
        """Drops hits that continue a word to their left or right."""
        data = texts.buffers()[2]
        if data is None or not len(hits.rows):
            return hits
        text_bytes, offsets = np.frombuffer(data, dtype=np.uint8), _offsets(texts)
        first, last = hits.starts > offsets[hits.rows], hits.ends < offsets[hits.rows + 1]
        before = text_bytes[np.where(first, hits.starts - 1, 0)]
        after = text_bytes[np.where(last, hits.ends, 0)]
        left, right = first & self._joins_left[hits.phrases], last & self._joins_right[hits.phrases]
        inside = (left & _JOINS[before]) | (right & _JOINS[after])
        # Neighbours beyond ASCII are rare; they are looked at one by one.
        for hit in np.flatnonzero(~inside & ((left & (before >= _ASCII_SIZE)) | (right & (after >= _ASCII_SIZE)))):
            start, end = hits.starts[hit], hits.ends[hit]
            head = data[max(int(offsets[hits.rows[hit]]), int(start) - 4) : int(start)].to_pybytes()
            tail = data[int(end) : min(int(offsets[hits.rows[hit] + 1]), int(end) + 4)].to_pybytes()
            inside[hit] = (left[hit] and joins(head.decode(errors="ignore")[-1:])) or (
                right[hit] and joins(tail.decode(errors="ignore")[:1])
            )
        return _Hits(*(column[~inside] for column in hits))

    def _scores(self, hits: _Hits) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """(row, intent, score) for each intent with a phrase in the text; each distinct phrase counts once."""
        found = np.sort(hits.rows * len(self.phrases) + hits.phrases)
        rows, phrases = np.divmod(found[np.diff(found, prepend=-1) > 0], len(self.phrases))
        intents = self._intent_of[phrases]
        # Phrases are sorted by intent, so those of one row and intent stand together.
        heads = np.flatnonzero(np.diff(rows * len(self.intents) + intents, prepend=-1))
        if not len(heads):
            return rows, intents, np.zeros(0)
        # Rounded, so that a lone phrase gives its own confidence, and what is equal on paper is equal here.
        scores = np.round(1.0 - np.multiply.reduceat(1.0 - self.confidences[phrases], heads), SCORE_DECIMALS)
        return rows[heads], intents[heads], scores


def confidence_of(best: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """b * b / (b + s), computed so that it is exactly b where s is 0."""
    return best * (best / (best + second))


def fold(text: str) -> str:
    """ASCII letters in lower case; all else stays, as the automaton sees it."""
    return text.encode().translate(_ASCII_LOWER).decode()


@lru_cache(maxsize=4096)
def joins(character: str) -> bool:
    """Whether the character continues a word that it touches; "" (the text's edge) does not."""
    if not character or any(low <= ord(character) <= high for low, high in UNSPACED_SCRIPTS):
        return False
    return character.isalnum() or character == "_" or unicodedata.category(character).startswith("M")


def _offsets(texts: pa.Array) -> NDArray[np.int64]:
    """Byte offsets of a large_string array: length + 1 of them, from its own start on."""
    return np.frombuffer(texts.buffers()[1], dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]

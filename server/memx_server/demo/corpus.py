"""The demo's built-in library: passages, their index, and a search with BM25 ranking."""

from __future__ import annotations

import math
import re
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

_WORD = re.compile(r"[^\W\d_]{2,}")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
SATURATION = 1.4
"""BM25's k1: how fast a repeated word stops adding to a score."""
LENGTH_WEIGHT = 0.6
"""BM25's b: how much a long passage is held against it."""


@dataclass(frozen=True)
class Passage:
    """A titled piece of text."""

    title: str
    text: str

    @property
    def sentences(self) -> list[str]:
        """The sentences of the text."""
        return _SENTENCE.split(self.text)


@dataclass(frozen=True)
class Hit:
    """A passage that a search found, with its score (higher is better)."""

    passage: Passage
    score: float


def words(text: str) -> list[str]:
    """Return the telling words of ``text`` in a simple base form, in order."""
    common = _common_words()
    return [_stem(word) for word in _WORD.findall(text.lower()) if word not in common]


def _spellings(passages: Iterable[Passage]) -> dict[str, str]:
    """Map each base form to its shortest spelling."""
    spellings: dict[str, str] = {}
    for passage in passages:
        for word in _WORD.findall(passage.text.lower()):
            stem = _stem(word)
            spellings[stem] = min(word, spellings.get(stem, word), key=len)
    return spellings


def _stem(word: str) -> str:
    # Enough for plurals and verb forms to meet; a wrong merge only costs a little precision.
    for ending in ("ies", "ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            stem = word[: -len(ending)]
            return stem + "y" if ending == "ies" else stem
    return word


class Corpus:
    """Passages with an index over their words."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        self.passages = tuple(passages)
        self._counts = [Counter(words(f"{p.title} {p.text}")) for p in self.passages]
        self._spellings = _spellings(self.passages)
        self._spread = Counter(word for counts in self._counts for word in counts)
        self._mean_length = sum(map(Counter.total, self._counts)) / max(len(self._counts), 1)

    def search(self, query: str, limit: int = 3) -> list[Hit]:
        """Return the best matches of ``query``, best first; none where no word of it occurs."""
        terms = set(words(query))
        hits = [
            Hit(passage, self._score(terms, counts))
            for passage, counts in zip(self.passages, self._counts, strict=True)
        ]
        found = sorted((hit for hit in hits if hit.score > 0), key=lambda hit: -hit.score)
        return found[:limit]

    def related(self, passage: Passage, apart: Collection[str]) -> list[str]:
        """Name what ``passage`` shares with those closest to it, as queries, closest first.

        Args:
            passage: One of this corpus.
            apart: Titles of passages that are known already.
        """
        held = self._counts[self.passages.index(passage)].keys()
        ties: list[tuple[float, str]] = []
        for other, counts in zip(self.passages, self._counts, strict=True):
            shared = sorted(held & counts.keys(), key=lambda word: (-self.rarity(word), word))
            if other.title not in apart and len(shared) > 1:
                query = " ".join(self._spellings.get(word, word) for word in shared[:3])
                ties.append((sum(map(self.rarity, shared)), query))
        return [query for _, query in sorted(ties, reverse=True)]

    def rarity(self, word: str) -> float:
        """Return the weight of a base form (BM25's inverse document frequency); 0 where no passage holds it."""
        spread = self._spread[word]
        return math.log(1 + (len(self.passages) - spread + 0.5) / (spread + 0.5)) if spread else 0.0

    def _score(self, terms: set[str], counts: Counter[str]) -> float:
        length = 1 - LENGTH_WEIGHT + LENGTH_WEIGHT * counts.total() / self._mean_length
        return sum(
            self.rarity(word) * n * (SATURATION + 1) / (n + SATURATION * length)
            for word in terms
            if (n := counts[word])
        )


@cache
def built_in() -> Corpus:
    """The passages that come with the demo."""
    return Corpus(Passage(**entry) for entry in _library()["passage"])


@cache
def _common_words() -> frozenset[str]:
    return frozenset(_library()["common_words"].split())


@cache
def _library() -> dict[str, Any]:
    text = files(__package__).joinpath("library.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def rank_sentences(question: str, sentences: Sequence[str], limit: int) -> list[str]:
    """Choose the sentences that fit ``question`` best and repeat each other least, in their first order."""
    terms, corpus = set(words(question)), built_in()
    chosen: list[str] = []
    covered: set[str] = set()
    while len(chosen) < limit:
        remaining = [sentence for sentence in sentences if sentence not in chosen]
        if not remaining:
            break
        best = max(remaining, key=lambda text: _gain(corpus, set(words(text)), terms, covered))
        chosen.append(best)
        covered |= set(words(best))
    return [sentence for sentence in sentences if sentence in chosen]


def _gain(corpus: Corpus, held: set[str], terms: set[str], covered: set[str]) -> float:
    # The fit counts only as far as the sentence is new: maximal marginal relevance, in its simplest form.
    fit = sum(corpus.rarity(word) for word in held & terms)
    repeated = len(held & covered) / max(len(held), 1)
    return fit * (1 - repeated)

"""Do two texts share passages? Word n-grams, compared through 64-bit hashes so that a large corpus fits in little memory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from netweight.data._corpus import Corpus
from netweight.errors import DataError

WORD = re.compile(r"[^\W_]+")
STEP = 0x9E3779B97F4A7C15  # odd, so that no position of the polynomial loses bits
EXAMPLES = 5


@dataclass(frozen=True)
class Overlap:
    """``shared`` distinct n-grams of b occur in a too: the fraction ``share_of_b`` of b's distinct n-grams."""

    n: int
    shared: int
    share_of_b: float
    examples: tuple[str, ...]  # the first few in b's order, lower-cased


def shared_ngrams(a: Corpus | Sequence[str], b: Corpus | Sequence[str], *, n: int = 13) -> Overlap:
    """Word n-grams that occur in both, after lower-casing and without punctuation; none runs over a document's end.

    Two different n-grams have equal hashes with probability 2^-64 per pair: with a million in each text, one time in 10^7.
    Texts shorter than n words have no n-grams and so share none.
    Raises: DataError: n is below 1.
    """
    known = np.unique(np.concatenate([_nothing(), *(_hashes(text, n) for text in _texts(a))]))
    found, seen = [_nothing()], [_nothing()]
    examples: list[str] = []
    for text in _texts(b):
        hashes = _hashes(text, n)
        hit = _among(hashes, known)
        if len(examples) < EXAMPLES and hit.any():
            words = WORD.findall(text.lower())
            examples += [" ".join(words[i : i + n]) for i in _first_of_runs(hit)]
        found.append(hashes[hit])
        seen.append(hashes)
    shared, all_of_b = len(np.unique(np.concatenate(found))), len(np.unique(np.concatenate(seen)))
    return Overlap(n, shared, shared / all_of_b if all_of_b else 0.0, tuple(dict.fromkeys(examples))[:EXAMPLES])


def _among(values: np.ndarray, sorted_known: np.ndarray) -> np.ndarray:
    """Which of the values occur in the other, which is sorted: nothing is sorted again for every text."""
    if not len(sorted_known):
        return np.zeros(len(values), bool)
    place = np.searchsorted(sorted_known, values)
    return sorted_known[np.minimum(place, len(sorted_known) - 1)] == values


def shared_groups(texts: Sequence[str], *, n: int) -> list[list[int]]:
    """Indices of texts, grouped so that texts of different groups share no n-gram; groups and members in order."""
    leader = list(range(len(texts)))
    first: dict[int, int] = {}
    for index, text in enumerate(texts):
        for value in np.unique(_hashes(text, n)).tolist():
            a, b = _root(leader, first.setdefault(value, index)), _root(leader, index)
            leader[max(a, b)] = min(a, b)
    groups: dict[int, list[int]] = {}
    for index in range(len(texts)):
        groups.setdefault(_root(leader, index), []).append(index)
    return list(groups.values())


def _root(leader: list[int], index: int) -> int:
    while leader[index] != index:
        index = leader[index]
    return index


def _texts(corpus: Corpus | Sequence[str]) -> Iterator[str]:
    return iter(corpus.documents if isinstance(corpus, Corpus) else corpus)


def _nothing() -> np.ndarray:
    return np.empty(0, np.uint64)


def _hashes(text: str, n: int) -> np.ndarray:
    """(words - n + 1,) uint64: a polynomial over the words' own hashes, modulo 2^64."""
    if n < 1:
        raise DataError(f"n-grams of {n} words: n must be at least 1")
    words = WORD.findall(text.lower())
    if len(words) < n:
        return _nothing()
    table = {
        word: int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little") for word in set(words)
    }
    values = np.fromiter((table[word] for word in words), np.uint64, len(words))
    total = np.zeros(len(words) - n + 1, np.uint64)
    for i in range(n):
        total = total * np.uint64(STEP) + values[i : i + len(total)]
    return total


def _first_of_runs(hit: np.ndarray) -> list[int]:
    """Where runs of hits begin: neighbouring n-grams of one passage make one example."""
    return np.flatnonzero(hit & ~np.concatenate([[False], hit[:-1]])).tolist()

"""The words of passages as PostgreSQL's full-text search takes them: cut and stemmed by `words`, not by its own configurations,
so that a text has the same words wherever it is searched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fettle.retrieval.words import AskedWords, asked_words, stem_of, words_of

_MOST_LETTERS = 200  # a word of PostgreSQL has less than 2 kB
_MOST_TIMES = 50  # that count; the fiftieth adds a thousandth


def stems_in(text: str, language: str) -> list[str]:
    """The words of a text without their endings, in their order."""
    return [_stem(word, language) for word in words_of(text)]


def words_asked_for(question: str, language: str) -> AskedWords:
    """The words that passages are looked for by, as they stand in the table."""
    asked = asked_words(question, language or None)
    return AskedWords(telling=_shortened(asked.telling), frequent=_shortened(asked.frequent))


def _stem(word: str, language: str) -> str:
    return stem_of(word, language or None)[:_MOST_LETTERS]


def _shortened(stems: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(stem[:_MOST_LETTERS] for stem in stems))


def as_tsvector(stems: Sequence[str]) -> str:
    """Words with as many positions as they occur times, as PostgreSQL writes them; which positions does not matter.

    >>> as_tsvector(["to", "be", "or", "not", "to", "be"])
    "'to':1,2 'be':1,2 'or':1 'not':1"
    """
    times = ((stem, min(num, _MOST_TIMES)) for stem, num in Counter(stems).items())
    return " ".join(f"{_quoted(stem)}:{','.join(map(str, range(1, num + 1)))}" for stem, num in times)


def as_tsquery(stems: Sequence[str]) -> str:
    """Whatever has at least one of these words.

    >>> as_tsquery(["norman", "raid"])
    "'norman' | 'raid'"
    """
    return " | ".join(map(_quoted, stems))


def _quoted(stem: str) -> str:
    """A word: it holds letters, digits and underscores, which need no escape."""
    return f"'{stem}'"

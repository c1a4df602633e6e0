"""The words of a text as full-text search compares them: folded, cut and stemmed in the same way in passages and in questions.

Words of scripts that are written without spaces are cut into overlapping pairs of characters, which needs no dictionary. What is
not here: compound words are not taken apart, and nothing knows synonyms; the vectors are there for that.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from fettle.errors import ConfigError

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\U00020000-\U0003134f"
)
"""Thai, Lao, Burmese, Khmer, Japanese, Chinese, and Korean, whose endings are written without a space."""
_SPACED = r"\w\u0300-\u036f\u0900-\u0963\u0966-\u0dff"
"""Letters and digits, and the vowel signs of Indian scripts, which Python counts as neither."""
_RUN = re.compile(f"(?P<unspaced>[{_UNSPACED}]+)|(?:(?![{_UNSPACED}])[{_SPACED}])+")

_UNSEEN = str.maketrans("", "", "\u00ad\u200b\u2060\ufeff")
"""Soft hyphens and marks without width, which documents are rid of when they are read."""
FREQUENT_COUNT = 0.5
"""What a language's most frequent words count in a question, where the others count 1 (docs/design/022-search.md)."""

_SMALLEST_SHARE = 0.2
"""Of the running words, that a language's own most frequent words have to make up."""


def words_of(text: str) -> list[str]:
    """The words of a text in their order, folded and not yet stemmed.

    >>> words_of("Größe: 12,5 ﬁns"), words_of("東京都 Tower")
    (['grösse', '12', '5', 'fins'], ['東京', '京都', 'tower'])
    """
    found: list[str] = []
    for run in _RUN.finditer(unicodedata.normalize("NFKC", text.translate(_UNSEEN)).casefold()):
        piece = run[0]
        if run["unspaced"] is None or len(piece) == 1:
            found.append(piece)
        else:
            found.extend(piece[start : start + 2] for start in range(len(piece) - 1))
    return found


def stems_of(words: Sequence[str], language: str | None) -> list[str]:
    """Each word without its ending, by the Snowball stemmer of a language; as they are where there is none.

    Raises:
        ConfigError: There is no stemmer for the language.

    >>> stems_of(["normans", "raiding"], "english"), stems_of(["normans"], None)
    (['norman', 'raid'], ['normans'])
    """
    if language is None:
        return list(words)
    import snowballstemmer

    if language not in _frequent_words():
        raise ConfigError(
            f"there is no stemmer for {language!r}",
            remedy=f"build the index anew; known are {', '.join(sorted(_frequent_words()))}",
        )
    return list(snowballstemmer.stemmer(language).stemWords(list(words)))


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedWords:
    """The words of a question without their endings, each once."""

    telling: tuple[str, ...]
    """A passage has at least one of them, or is not found."""
    frequent: tuple[str, ...]
    """The language's most frequent words, of which questions are full: they count `FREQUENT_COUNT` in passages that are found."""


def asked_words(question: str, language: str | None) -> AskedWords:
    """What passages are looked for by. Where a question has none but frequent words, these are what tells.

    Args:
        question: As it was asked.
        language: As `language_of` says it.

    >>> asked_words("What did Normans speak?", "english").telling, asked_words("who is it", "english").telling
    (('norman', 'speak'), ('who', 'is', 'it'))
    """
    words = words_of(question)
    listed = _frequent_words().get(language or "", frozenset())
    telling = dict.fromkeys(stem_of(word, language) for word in words if word not in listed)
    frequent = dict.fromkeys(stem_of(word, language) for word in words if word in listed)
    if not telling:
        return AskedWords(telling=tuple(frequent), frequent=())
    return AskedWords(telling=tuple(telling), frequent=tuple(stem for stem in frequent if stem not in telling))


def share_found(rarity_by_word: Mapping[str, float], found: Collection[str]) -> float:
    """Which share of the weight of some words a passage has, from 0 to 1: a rare word counts more. 0 where there is no word.

    Args:
        rarity_by_word: Of the words that any passage has, at least 0.
        found: Those that the passage has.

    >>> share_found({"sku4411": 3.0, "warranty": 1.0}, {"sku4411", "red"})
    0.75
    """
    total = sum(rarity_by_word.values())
    return sum(rarity for word, rarity in rarity_by_word.items() if word in found) / total if total > 0 else 0.0


def rarity(num_passages: int, num_with: int) -> float:
    """How much a word counts in BM25 that so many of all passages have.

    >>> round(rarity(1000, 2), 2), round(rarity(1000, 900), 2)
    (5.99, 0.11)
    """
    return math.log1p((num_passages - num_with + 0.5) / (num_with + 0.5))


@lru_cache(maxsize=1 << 17)
def stem_of(word: str, language: str | None) -> str:
    """One word without its ending: a stemmer in plain Python takes longer for a passage than everything else.

    Raises:
        ConfigError: There is no stemmer for the language.
    """
    return stems_of([word], language)[0]


def language_of(num_by_word: Mapping[str, int]) -> str | None:
    """The language in which most of a text is written, by its most frequent words; None where it is none of those with a stemmer.

    Args:
        num_by_word: How often each folded word occurs.

    >>> language_of({"der": 3, "und": 2, "die": 4, "rechnung": 2})
    'german'
    """
    total = sum(num_by_word.values())
    if total == 0:
        return None
    share_by_language = {
        language: sum(num_by_word.get(word, 0) for word in frequent) / total
        for language, frequent in _frequent_words().items()
    }
    best = max(share_by_language, key=lambda language: share_by_language[language])
    return best if share_by_language[best] >= _SMALLEST_SHARE else None


@cache
def _frequent_words() -> dict[str, frozenset[str]]:
    from bm25s import stopwords

    lists: dict[str, Sequence[str]] = {
        "english": stopwords.STOPWORDS_EN_PLUS,
        "german": stopwords.STOPWORDS_GERMAN,
        "dutch": stopwords.STOPWORDS_DUTCH,
        "french": stopwords.STOPWORDS_FRENCH,
        "spanish": stopwords.STOPWORDS_SPANISH,
        "portuguese": stopwords.STOPWORDS_PORTUGUESE,
        "italian": stopwords.STOPWORDS_ITALIAN,
        "russian": stopwords.STOPWORDS_RUSSIAN,
        "swedish": stopwords.STOPWORDS_SWEDISH,
        "norwegian": stopwords.STOPWORDS_NORWEGIAN,
        "danish": stopwords.STOPWORDS_DANISH,
        "turkish": stopwords.STOPWORDS_TURKISH,
    }
    return {language: frozenset(word.casefold() for word in frequent) for language, frequent in lists.items()}

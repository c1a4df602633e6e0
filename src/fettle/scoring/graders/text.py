"""Graders that compare a free-text answer with the wanted one, character by character or word by word.

They reward likeness, not truth: two good replies in other words score low. They are fit for telling arms apart on many
examples, not for judging one answer. Where an example has several right answers, the one that is most alike counts.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from fettle.records import Answer, Example, Score
from fettle.scoring.grader import scored, unscorable

if TYPE_CHECKING:
    from sacrebleu.metrics.chrf import CHRF

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chrf:
    """Overlap of character n-grams, n = 1 to 6, recall weighted twice; in [0, 1].

    Source: Popović 2015, "chrF: character n-gram F-score"; sacrebleu's sentence chrF2 divided by 100, except that two texts that
    are the same but for white space score 1 also when they are empty.
    """

    name: str = "chrf"
    title: str = "chrF"
    is_binary: bool = False

    def score(self, example: Example, answer: Answer) -> Score:
        """In [0, 1]."""
        if (result := unscorable(example, answer)) is not None:
            return result
        return scored(example, max(chrf(right, answer.text) for right in right_answers(example)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RougeL:
    """F1 of the longest common subsequence of words; in [0, 1]. Case and punctuation do not matter.

    Source: Lin 2004, "ROUGE"; equal to rouge-score's `rougeL` without stemming on English text. A run of letters counts
    as one word, so scripts without spaces (Chinese, Thai) need `chrf`.
    """

    name: str = "rouge_l"
    title: str = "ROUGE-L"
    is_binary: bool = False

    def score(self, example: Example, answer: Answer) -> Score:
        """In [0, 1]."""
        if (result := unscorable(example, answer)) is not None:
            return result
        return scored(example, max(rouge_l(right, answer.text) for right in right_answers(example)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactText:
    """1 when the answer is the wanted text, but for white space at the ends, line endings and Unicode composition."""

    name: str = "exact_text"
    title: str = "Exact text"
    is_binary: bool = True

    def score(self, example: Example, answer: Answer) -> Score:
        """1 or 0."""
        if (result := unscorable(example, answer)) is not None:
            return result
        return scored(example, _trimmed(answer.text) in map(_trimmed, right_answers(example)))


def right_answers(example: Example) -> tuple[str, ...]:
    """The wanted answer, and those that would be as right."""
    return (example.answer, *example.references)


def chrf(wanted: str, answered: str) -> float:
    """Sentence chrF2 of `answered` against `wanted`, in [0, 1]; see `Chrf`.

    >>> chrf("Thanks, Ann", "Thanks, Ann"), chrf("", ""), chrf("Thanks", "")
    (1.0, 1.0, 0.0)
    """
    if "".join(wanted.split()) == "".join(answered.split()):
        return 1.0
    return min(1.0, max(0.0, _chrf().sentence_score(answered, [wanted]).score / 100))


def rouge_l(wanted: str, answered: str) -> float:
    """ROUGE-L F1 of `answered` against `wanted`, in [0, 1]; see `RougeL`.

    >>> rouge_l("the cat sat down", "The cat lay down.")
    0.75
    """
    from rapidfuzz.distance import LCSseq

    wanted_words, answered_words = _WORD.findall(wanted.casefold()), _WORD.findall(answered.casefold())
    if not wanted_words and not answered_words:
        return float(_trimmed(wanted) == _trimmed(answered))
    return 2 * LCSseq.similarity(wanted_words, answered_words) / (len(wanted_words) + len(answered_words))


def _trimmed(text: str) -> str:
    return unicodedata.normalize("NFC", "\n".join(text.strip().splitlines()))


@lru_cache(maxsize=1)
def _chrf() -> CHRF:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()

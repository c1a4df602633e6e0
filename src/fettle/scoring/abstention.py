"""Answers that say that there is none, such as: The documents do not answer this question."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from fettle.records import Example
from fettle.scoring.abstention_phrases import says_no_answer

WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)?")
"""A word or a number."""
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^\W_]|[\"'“(])|\n+")
FEWEST_REPEATS = 3
"""Of a sentence that training answers say so by."""
_FEWEST_WORDS = 3
_MOST_WORDS = 25


@dataclass(frozen=True, slots=True)
class Abstentions:
    """How answers say that there is none."""

    sentences: frozenset[str] = frozenset()
    """Those that the training answers have for it, as `plain` writes them."""

    def is_abstention(self, text: str) -> bool:
        """Whether an answer does no more than to say that there is none: one short sentence without a number."""
        if plain(text) in self.sentences:
            return True
        words = WORD.findall(text)
        is_short = len(words) <= _MOST_WORDS and not any(word[0].isdigit() for word in words)
        return is_short and len(SENTENCE_END.split(text.strip())) == 1 and says_no_answer(text)

    def is_wanted(self, example: Example) -> bool:
        """Whether saying that there is none is right: no document answers, or the wanted answer says so, in words of its own."""
        return example.document_ids == () or (not example.is_told and self.is_abstention(example.answer))


def learn_abstentions(train: Sequence[Example]) -> Abstentions:
    """How training answers about documents say that there is none.

    That is: in English phrases, or in a sentence of at least three words that stands at least three times where no document answers
    (`document_ids` is there and empty), and never where one does. Other sets need no more than those ids.
    """
    of_unanswered = Counter(plain(example.answer) for example in train if example.document_ids == ())
    elsewhere = {plain(example.answer) for example in train if example.document_ids}
    return Abstentions(frozenset(text for text in often_said(of_unanswered) if text not in elsewhere))


def usual_abstention(train: Sequence[Example], abstentions: Abstentions, *, otherwise: str) -> str:
    """The sentence by which training answers mostly say it, word for word; `otherwise`, where hardly any does."""
    abstaining = (one for one in train if not one.is_told and abstentions.is_abstention(one.answer))
    counts = Counter(example.answer.strip() for example in abstaining)
    [(sentence, count)] = counts.most_common(1) or [(otherwise, 0)]
    return sentence if count >= FEWEST_REPEATS else otherwise


def often_said(counts: Counter[str]) -> set[str]:
    """Of plain texts those that are said again and again, and are more than a word or two."""
    return {text for text, count in counts.items() if count >= FEWEST_REPEATS and len(text.split()) >= _FEWEST_WORDS}


def unsupported(supports: Sequence[tuple[str, float]], *, below: float) -> frozenset[str]:
    """Of plain texts those whose mean support is low.

    >>> sorted(unsupported([("we do not know", 0.0), ("we do not know", 0.4), ("in 1931", 1.0)], below=0.5))
    ['we do not know']
    """
    values: dict[str, list[float]] = defaultdict(list)
    for text, support in supports:
        values[text].append(support)
    return frozenset(text for text, some in values.items() if sum(some) / len(some) < below)


def plain(text: str) -> str:
    """A text without case and punctuation.

    >>> plain("Not in the documents!")
    'not in the documents'
    """
    return " ".join(WORD.findall(text.casefold()))

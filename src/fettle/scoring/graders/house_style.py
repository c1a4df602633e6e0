"""The house-style grader: which habits of the training answers an answer keeps.

The habits are learned from the training answers alone. A habit is part of the style when at least 90 % of the training
answers have it and it is not trivial, that is, at most 70 % of ordinary assistant replies, or of the customers' own messages,
have it too. The score says nothing about whether an answer is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fettle.records import Answer, Example, Score
from fettle.scoring.grader import scored, unscorable, unscored
from fettle.scoring.ordinary_replies import ORDINARY_REPLIES, STOCK_PHRASES
from fettle.scoring.style_rules import (
    Avoids,
    ClosesWith,
    Feature,
    GreetsOnOwnLine,
    HasBetween,
    Measure,
    OpensWith,
    RepeatsPlaceholders,
    RepeatsReferences,
    Says,
    Shows,
    StyleRule,
    contains_phrase,
    words_of,
)

_SHARED_BY = 0.90
_TRIVIAL_ABOVE = 0.70
_MIN_ANSWERS = 20
"""Fewer answers to judge a habit by, and nine in ten of them may agree by accident."""
_MAX_PHRASE_WORDS = 16
_MAX_PHRASES = 5
_MAX_TYPICAL_WORDS = 5
_MAX_CONTRASTED = 600

Exchange = tuple[str, str]
"""What was asked, and a reply to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseStyle:
    """The share of the applicable rules that an answer keeps, in [0, 1]; an answer without a word keeps none.

    Args:
        rules: The profile; see `learn_house_style`.
    """

    rules: tuple[StyleRule, ...]
    name: str = "house_style"
    title: str = "House style"
    is_binary: bool = False

    def score(self, example: Example, answer: Answer) -> Score:
        """Unscored when no rule applies to this message."""
        if (result := unscorable(example, answer)) is not None:
            return result
        if not words_of(answer.text):
            return scored(example, 0.0)
        kept = [rule.holds(example.input_text, answer.text) for rule in self.rules]
        applicable = [is_kept for is_kept in kept if is_kept is not None]
        if not applicable:
            return unscored(example, "no rule of the house style applies")
        return scored(example, sum(applicable) / len(applicable))

    def describe(self) -> str:
        """The profile in words, one rule a line, for the report."""
        if not self.rules:
            return "No house style was recognised in the training answers."
        return "\n".join(["A reply in the house style", *(f"- {rule.describe()}" for rule in self.rules)])


def learn_house_style(train: Sequence[Example]) -> HouseStyle:
    """The habits that the training answers share and ordinary replies do not; no rules when there is no such habit.

    Deterministic; takes some seconds for ten thousand answers.
    """
    exchanges = [(example.input_text, example.answer) for example in train if words_of(example.answer)]
    if len(exchanges) < _MIN_ANSWERS:
        return HouseStyle(rules=())
    contrasts = _contrasts([asked for asked, _ in exchanges])
    return HouseStyle(rules=tuple(rule for rule in _candidates(exchanges) if _is_style(rule, exchanges, contrasts)))


def _is_style(rule: StyleRule, exchanges: Sequence[Exchange], contrasts: Sequence[Sequence[Exchange]]) -> bool:
    share, num_applicable = _share(rule, exchanges)
    return (
        num_applicable >= _MIN_ANSWERS
        and share >= _SHARED_BY
        and min(_share(rule, contrast)[0] for contrast in contrasts) <= _TRIVIAL_ABOVE
    )


def _share(rule: StyleRule, exchanges: Sequence[Exchange]) -> tuple[float, int]:
    """Share of the exchanges that keep the rule, of those it applies to, and the number of these."""
    kept = [is_kept for asked, text in exchanges if (is_kept := rule.holds(asked, text)) is not None]
    return (sum(kept) / len(kept) if kept else 0.0), len(kept)


def _contrasts(asked: Sequence[str]) -> tuple[list[Exchange], list[Exchange]]:
    """Replies that are not in the house style: ordinary ones, and the messages themselves sent back."""
    messages = [text for text in asked if words_of(text)][:_MAX_CONTRASTED] or [""]
    num_rounds = max(len(messages), len(ORDINARY_REPLIES))
    ordinary = [(messages[i % len(messages)], ORDINARY_REPLIES[i % len(ORDINARY_REPLIES)]) for i in range(num_rounds)]
    return ordinary, [(message, message) for message in messages]


def _candidates(exchanges: Sequence[Exchange]) -> Iterator[StyleRule]:
    texts = [text for _, text in exchanges]
    words_by_text = [words_of(text) for text in texts]
    opening = _shared_phrases([words[:_MAX_PHRASE_WORDS] for words in words_by_text])
    closing = _shared_phrases([words[: -_MAX_PHRASE_WORDS - 1 : -1] for words in words_by_text])
    closing = tuple(" ".join(reversed(phrase.split())) for phrase in closing)
    yield GreetsOnOwnLine()
    if opening:
        yield OpensWith(opening)
    if closing:
        yield ClosesWith(closing)
    for measure in Measure:
        counts = [measure.of(text) for text in texts]
        low, high = np.quantile(counts, [0.025, 0.975], method="nearest")
        yield HasBetween(measure, int(low), int(high))
    for feature in Feature:
        yield Shows(feature, is_wanted=True)
        yield Shows(feature, is_wanted=False)
    yield RepeatsPlaceholders()
    yield RepeatsReferences()
    for word in _typical_words(
        words_by_text, excluded={word for phrase in opening + closing for word in phrase.split()}
    ):
        yield Says(word)
    if avoided := _avoided_phrases(words_by_text):
        yield Avoids(avoided)


def _shared_phrases(starts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The longest beginning that 90 % of `starts` have or, failing that, two to five that cover as many; else ()."""
    needed = _SHARED_BY * len(starts)
    for num_words in range(_MAX_PHRASE_WORDS, 0, -1):
        [(phrase, count)] = Counter(tuple(words[:num_words]) for words in starts).most_common(1)
        if count >= needed and len(phrase) == num_words:
            return (" ".join(phrase),)
    for num_words in range(_MAX_PHRASE_WORDS, 0, -1):
        beginnings = Counter(tuple(words[:num_words]) for words in starts if len(words) >= num_words)
        # Ties in count are settled by the words, so that the profile does not depend on the order of the examples.
        commonest = sorted(beginnings.items(), key=lambda item: (-item[1], item[0]))[:_MAX_PHRASES]
        for num_phrases in range(2, len(commonest) + 1):
            if sum(count for _, count in commonest[:num_phrases]) >= needed:
                return tuple(" ".join(phrase) for phrase, _ in commonest[:num_phrases])
    return ()


def _typical_words(words_by_text: Sequence[Sequence[str]], *, excluded: set[str]) -> list[str]:
    """Words that most answers use and at most a third of ordinary replies do, outside the opening and the closing."""
    ordinary = Counter(word for text in ORDINARY_REPLIES for word in set(words_of(text)))
    num_texts = Counter(word for words in words_by_text for word in set(words))
    typical = [
        word
        for word, count in num_texts.items()
        if count >= _SHARED_BY * len(words_by_text)
        and ordinary[word] <= len(ORDINARY_REPLIES) / 3
        and word not in excluded
    ]
    return sorted(typical, key=lambda word: (ordinary[word], word))[:_MAX_TYPICAL_WORDS]


def _avoided_phrases(words_by_text: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The stock phrases that at most 1 % of the answers use; () when the answers do not look English."""
    if sum("the" in words for words in words_by_text) < len(words_by_text) / 2:
        return ()
    limit = 0.01 * len(words_by_text)
    return tuple(
        phrase
        for phrase in STOCK_PHRASES
        if sum(contains_phrase(words, words_of(phrase)) for words in words_by_text) <= limit
    )

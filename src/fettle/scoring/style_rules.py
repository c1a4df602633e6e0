"""Checkable habits of writing: one small rule type each, which says in words what it asks and whether a text keeps it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SENTENCE_END = re.compile(r"[.!?…。！？]+(?=[\s\"'”’)]|$)|\n+")
_BLANK_LINES = re.compile(r"\n\s*\n")
_LIST_ITEM = re.compile(r"^\s*(?:[-*•–]|\d{1,2}[.)])\s+\S", re.MULTILINE)
_MARKDOWN = re.compile(r"\*\*\S|^#{1,6} ", re.MULTILINE)
_EMOJI = re.compile("[\U0001f1e6-\U0001faff\u2600-\u27bf]")
_BLANK_TO_FILL = re.compile(r"\[[A-Z][\w' ]{2,40}\]")
_PLACEHOLDER = re.compile(r"\{\{[^{}\n]{1,60}\}\}")
_REFERENCE = re.compile(r"\d(?:[ -]?\d){5,}")
_SINGULAR = frozenset({"i", "me", "my", "mine", "myself"})
_CONTRACTION = re.compile(r"\w['’](?:t|m|re|ve|ll|d)\b", re.IGNORECASE)


class StyleRule(Protocol):
    """One habit. Rules are plain data, so that a profile can be compared, printed and stored."""

    def describe(self) -> str:
        """What the rule asks, in words that follow "a reply ..."."""
        ...

    def holds(self, asked: str, text: str) -> bool | None:
        """Whether `text`, as the reply to `asked`, keeps the rule; None where the rule has nothing to say."""
        ...


def words_of(text: str) -> list[str]:
    """The words of a text, case-folded, with straight apostrophes.

    >>> words_of("Hi, Ann! It’s 3 pm.")
    ['hi', 'ann', "it's", '3', 'pm']
    """
    return [word.replace("’", "'") for word in _WORD.findall(text.casefold())]


def contains_phrase(words: Sequence[str], phrase: Sequence[str]) -> bool:
    """Whether the words of `phrase` stand next to each other in `words`."""
    return f" {' '.join(phrase)} " in f" {' '.join(words)} "


@dataclass(frozen=True, slots=True)
class OpensWith:
    """The first words are one of `phrases`."""

    phrases: tuple[str, ...]

    def describe(self) -> str:
        """In words."""
        return f"opens with {_either(self.phrases)}"

    def holds(self, asked: str, text: str) -> bool | None:  # noqa: ARG002 (the interface)
        """Case and punctuation do not matter."""
        words = words_of(text)
        return any(words[: len(phrase.split())] == phrase.split() for phrase in self.phrases)


@dataclass(frozen=True, slots=True)
class ClosesWith:
    """The last words are one of `phrases`."""

    phrases: tuple[str, ...]

    def describe(self) -> str:
        """In words."""
        return f"closes with {_either(self.phrases)}"

    def holds(self, asked: str, text: str) -> bool | None:  # noqa: ARG002 (the interface)
        """Case and punctuation do not matter."""
        words = words_of(text)
        return any(words[-len(phrase.split()) :] == phrase.split() for phrase in self.phrases)


@dataclass(frozen=True, slots=True)
class GreetsOnOwnLine:
    """The first line is a short greeting, and more follows."""

    def describe(self) -> str:
        """In words."""
        return "starts with a short line of its own that ends in a comma, colon or exclamation mark"

    def holds(self, asked: str, text: str) -> bool | None:  # noqa: ARG002 (the interface)
        """At most five words, then a line break."""
        first, line_break, rest = text.strip().partition("\n")
        return bool(line_break and rest.strip()) and first.rstrip()[-1:] in ",:!" and len(words_of(first)) <= 5


class Measure(StrEnum):
    """What can be counted in a text."""

    WORDS = "words"
    SENTENCES = "sentences"
    PARAGRAPHS = "paragraphs"

    def of(self, text: str) -> int:
        """The number of them in `text`."""
        match self:
            case Measure.WORDS:
                return len(words_of(text))
            case Measure.SENTENCES:
                return sum(1 for part in _SENTENCE_END.split(text) if words_of(part))
            case Measure.PARAGRAPHS:
                return sum(1 for part in _BLANK_LINES.split(text) if part.strip())


@dataclass(frozen=True, slots=True)
class HasBetween:
    """A count lies between `low` and `high`, both included."""

    measure: Measure
    low: int
    high: int

    def describe(self) -> str:
        """In words."""
        if self.low == self.high:
            return f"has {self.low} {self.measure if self.low != 1 else self.measure.removesuffix('s')}"
        return f"has {self.low} to {self.high} {self.measure}"

    def holds(self, asked: str, text: str) -> bool | None:  # noqa: ARG002 (the interface)
        """Both ends included."""
        return self.low <= self.measure.of(text) <= self.high


class Feature(StrEnum):
    """What a text can have or not have."""

    LIST = "a bulleted or numbered list"
    EXCLAMATION = "an exclamation mark"
    QUESTION = "a question mark"
    EMOJI = "an emoji"
    MARKDOWN = "bold text or headings in Markdown"
    BLANK_TO_FILL = "a blank left to fill in, such as [Your Name]"
    PLACEHOLDER = "a placeholder such as {{Name}}"
    SINGULAR = "the words I, me or my"
    CONTRACTION = "a contraction such as don't"

    def is_in(self, text: str) -> bool:
        """Whether `text` has it."""
        return _FEATURE_TESTS[self](text)


_FEATURE_TESTS: dict[Feature, Callable[[str], bool]] = {
    Feature.LIST: lambda text: _LIST_ITEM.search(text) is not None,
    Feature.EXCLAMATION: lambda text: "!" in text,
    Feature.QUESTION: lambda text: "?" in text,
    Feature.EMOJI: lambda text: _EMOJI.search(text) is not None,
    Feature.MARKDOWN: lambda text: _MARKDOWN.search(text) is not None,
    Feature.BLANK_TO_FILL: lambda text: _BLANK_TO_FILL.search(text) is not None,
    Feature.PLACEHOLDER: lambda text: _PLACEHOLDER.search(text) is not None,
    Feature.SINGULAR: lambda text: any(word.split("'")[0] in _SINGULAR for word in words_of(text)),
    Feature.CONTRACTION: lambda text: _CONTRACTION.search(text) is not None,
}


@dataclass(frozen=True, slots=True)
class Shows:
    """The text has a feature, or (`is_wanted` False) never does."""

    feature: Feature
    is_wanted: bool

    def describe(self) -> str:
        """In words."""
        return f"has {self.feature}" if self.is_wanted else f"never has {self.feature}"

    def holds(self, asked: str, text: str) -> bool | None:  # noqa: ARG002 (the interface)
        """True when the feature is there as wanted."""
        return self.feature.is_in(text) == self.is_wanted


@dataclass(frozen=True, slots=True)
class Says:
    """The text uses a word that is typical of the house."""

    word: str

    def describe(self) -> str:
        """In words."""
        return f'says "{self.word}"'

    def holds(self, asked: str, text: str) -> bool | None:  # noqa: ARG002 (the interface)
        """Case does not matter."""
        return self.word in words_of(text)


@dataclass(frozen=True, slots=True)
class Avoids:
    """The text has none of `phrases`."""

    phrases: tuple[str, ...]

    def describe(self) -> str:
        """In words."""
        return "avoids " + ", ".join(f'"{phrase}"' for phrase in self.phrases)

    def holds(self, asked: str, text: str) -> bool | None:  # noqa: ARG002 (the interface)
        """Case and punctuation do not matter."""
        words = words_of(text)
        return not any(contains_phrase(words, words_of(phrase)) for phrase in self.phrases)


@dataclass(frozen=True, slots=True)
class RepeatsPlaceholders:
    """Every placeholder of the message stands in the reply, letter by letter."""

    def describe(self) -> str:
        """In words."""
        return "keeps every placeholder of the message, such as {{Order Number}}, exactly as it is"

    def holds(self, asked: str, text: str) -> bool | None:
        """None when the message has no placeholder."""
        placeholders = set(_PLACEHOLDER.findall(asked))
        return all(placeholder in text for placeholder in placeholders) if placeholders else None


@dataclass(frozen=True, slots=True)
class RepeatsReferences:
    """Every reference number of the message (six digits or more) stands in the reply, however it is spaced."""

    def describe(self) -> str:
        """In words."""
        return "repeats the reference numbers of the message"

    def holds(self, asked: str, text: str) -> bool | None:
        """None when the message has no reference number."""
        references = {_digits(reference) for reference in _REFERENCE.findall(asked)}
        repeated = {_digits(reference) for reference in _REFERENCE.findall(text)}
        return references <= repeated if references else None


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _either(phrases: Sequence[str]) -> str:
    quoted = [f'"{phrase}"' for phrase in phrases]
    return quoted[0] if len(quoted) == 1 else f"one of {', '.join(quoted)}"

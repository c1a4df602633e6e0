"""Personal data in texts, told by its form: the message shows a masked value, so that a report can be passed on.

What has no form of its own (a name alone in a message) cannot be told apart from other text by rules and is not found;
`benchmarks/messy_recall.py` says how much that is.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fettle.examples.checks.personal_kinds import KINDS, NOT_CODES, PersonalKind
from fettle.examples.notes import info, warning
from fettle.records import Example, Finding, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalSpan:
    """Where personal data stand in a text, in characters."""

    kind: PersonalKind
    start: int
    end: int


def personal_spans(text: str, *, is_answer: bool = False) -> list[PersonalSpan]:
    """Personal data in a text, from left to right; where two kinds overlap, the first in `KINDS` counts."""
    spans: list[
        PersonalSpan
    ] = []  # in order and apart from each other, so only the neighbours of a new one can overlap it
    for kind in KINDS:
        if is_answer and not kind.is_in_answers:
            continue
        for match in kind.pattern.finditer(text):
            start, end = match.span("value") if "value" in kind.pattern.groupindex and match["value"] else match.span()
            end = min(end, match.start() + kind.num_meant(match.group()))
            place = bisect(spans, start, key=lambda span: span.start)
            is_taken = any(start < span.end and span.start < end for span in spans[max(0, place - 1) : place + 1])
            if not is_taken and kind.is_real(match.group()):
                spans.insert(place, PersonalSpan(kind=kind, start=start, end=end))
    return spans


_GAPS = re.compile(r"[\s.()/+\u2010-\u2015-]+")
_TOKEN = re.compile(r"[^\W_]+")
_MIN_DIGITS_OF_PART = 6


def normalised(value: str) -> str:
    """A value without case, spaces, dots and dashes: a number that is written with other gaps is the same number."""
    return _GAPS.sub("", value.lower())


def hashed(value: str) -> str:
    """SHA-256 of a normalised value: who knows it can find it, and nobody reads it off."""
    return hashlib.sha256(normalised(value).encode()).hexdigest()


def parts_of(value: str) -> set[str]:
    """A value, and what it may be a piece too long of: all runs of its words and numbers that have six digits.

    >>> sorted(parts_of("KN471108 99"))
    ['KN471108', 'KN471108 99', 'KN47110899']
    """
    tokens = _TOKEN.findall(value)
    runs = {"".join(tokens[first:last]) for first in range(len(tokens)) for last in range(first + 1, len(tokens) + 1)}
    return {value, *(run for run in runs if sum(map(str.isdigit, run)) >= _MIN_DIGITS_OF_PART)}


def mask(value: str) -> str:
    """A value that can be recognised by who knows it, and by nobody else.

    >>> mask("grace@example.com"), mask("41")
    ('g…m', '…')
    """
    value = value.strip()
    return f"{value[0]}…{value[-1]}" if len(value) > 3 else "…"


def check_personal_data(examples: Sequence[Example]) -> Iterator[Finding]:
    """One finding per example and kind of personal data, in what people wrote and in the answer.

    Numbers with a prefix that many examples share are the firm's own (parcels, orders, invoices); one finding names them all.
    """
    prefixes = house_prefixes(["\n".join(one.content for one in _messages_of_people(example)) for example in examples])
    if prefixes:
        shown = ", ".join(f"{prefix}…" for prefix in prefixes)
        text = f"numbers such as {shown} were taken for references of your own firm, not for personal data"
        yield info("house-references", text, "mask them if they lead to a person").about(examples[0].source.file)
    for example in examples:
        found: dict[str, tuple[PersonalKind, str]] = {}
        for message in _messages_of_people(example):
            spans = personal_spans(message.content, is_answer=message.role == "assistant")
            for span in without_house_references(message.content, spans, prefixes):
                found.setdefault(span.kind.code, (span.kind, message.content[span.start : span.end]))
        for kind, value in found.values():
            yield warning(
                kind.code,
                f"holds {kind.name} ({mask(value)})",
                "replace it by a placeholder: a tuned model can repeat what it was trained on",
            ).at(example.source)


_REFERENCE = re.compile(r"\b([A-Za-z]{1,4})[ -]?\d(?:[ -]?\d){5,13}\b")
_NEVER_THE_HOUSES = ("personal-email", "personal-iban")
_MIN_EXAMPLES_OF_PREFIX = 10
_MIN_SHARE_OF_PREFIX = 0.03


def house_prefixes(texts: Sequence[str]) -> list[str]:
    """Prefixes of numbers that at least ten texts, and 3 % of them, share: of parcels, orders or invoices of the firm's own."""
    counts = Counter(prefix for text in texts for prefix in {_prefix(match) for match in _references(text)})
    needed = max(_MIN_EXAMPLES_OF_PREFIX, _MIN_SHARE_OF_PREFIX * len(texts))
    return sorted(prefix for prefix, count in counts.items() if count >= needed)


def without_house_references(
    text: str, spans: Sequence[PersonalSpan], prefixes: Sequence[str]
) -> Iterator[PersonalSpan]:
    """Spans of a text that are no number with one of the house's prefixes.

    An e-mail address and an account number (IBAN) are none, whatever letters they begin with, nor is one that goes on beyond it.
    """
    house = [match.span() for match in _references(text) if _prefix(match) in prefixes]
    return (span for span in spans if not any(_is_all_of(span, text, *place) for place in house))


def _is_all_of(span: PersonalSpan, text: str, start: int, end: int) -> bool:
    """Whether a span is a reference between two places, but for a small number behind it."""
    if span.kind.code in _NEVER_THE_HOUSES or not start <= span.start < end:
        return False
    beyond = sum(map(str.isdigit, text[end : span.end]))
    return beyond == 0 if span.kind.code == "personal-card" else beyond < _MIN_DIGITS_OF_PART


def references(text: str, prefixes: Sequence[str] | None = None) -> list[str]:
    """Numbers with letters before them, as firms number parcels, orders and customers; None: with whatever letters."""
    return [match.group() for match in _references(text) if prefixes is None or _prefix(match) in prefixes]


def _messages_of_people(example: Example) -> Iterator[Message]:
    return (message for message in example.messages if message.role in ("user", "assistant"))


def _references(text: str) -> Iterator[re.Match[str]]:
    return (match for match in _REFERENCE.finditer(text) if match[1].lower() not in NOT_CODES)


def _prefix(match: re.Match[str]) -> str:
    return match[1].upper()

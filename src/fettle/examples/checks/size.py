"""How many examples there are, and how long they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from statistics import median

from fettle.examples.notes import Note, info, warning
from fettle.records import Action, Example, Finding, Severity

FEW_EXAMPLES = 50
_LONG_CHARACTERS = 2000
_TIMES_MEDIAN = 10
_ALWAYS_LONG_CHARACTERS = 40_000
_SHORT_CHARACTERS = 3
_CUT_IT = (
    "cut it to what matters; a study refuses examples longer than its model takes, or leaves them out with "
    "--leave-out-long"
)
_REPEATED_SENTENCE = re.compile(r"(?s)(.{12,400}?)\1{4,}")


def check_count(examples: Sequence[Example], *, fewest: int) -> Iterator[Finding]:
    """An error below the fewest examples that a study takes, a warning below 50."""
    if len(examples) >= FEW_EXAMPLES or not examples:
        return
    is_too_few = len(examples) < fewest
    note = Note(
        code="too-few-examples",
        severity=Severity.ERROR if is_too_few else Severity.WARNING,
        action=Action.KEPT,
        message=f"{len(examples)} examples; "
        + (f"at least {fewest} are needed" if is_too_few else f"below {FEW_EXAMPLES} no comparison can be decided"),
        remedy="collect more; a few hundred usually decide the question",
    )
    yield note.about(examples[0].source.file)


def check_lengths(examples: Sequence[Example]) -> Iterator[Finding]:
    """Inputs far longer than the others or saying one thing over and over, and inputs of a character or two."""
    if not examples:
        return
    usual = median(len(example.input_text) for example in examples)
    limit = min(max(_LONG_CHARACTERS, _TIMES_MEDIAN * usual), _ALWAYS_LONG_CHARACTERS)
    for example in examples:
        length = max(len(message.content) for message in example.messages)
        if length > limit:
            text = f"{length:,} characters, where {usual:,.0f} is usual" + _what_is_repeated(example)
            yield warning("very-long", text, _CUT_IT).at(example.source)
        elif 0 < sum(char.isalnum() for char in example.input_text) < _SHORT_CHARACTERS and usual > _LONG_INPUT:
            yield info(
                "very-short",
                f"the whole input is {example.input_text.strip()[:10]!r}",
                "check that nothing was cut off",
            ).at(example.source)


_LONG_INPUT = 20
"""Median characters from which on an input of one or two is odd."""


def _what_is_repeated(example: Example) -> str:
    longest = max((message.content for message in example.messages), key=len)[:5000]
    match = _REPEATED_SENTENCE.search(longest)
    return f"; repeats {match.group(1).strip()[:40]!r} again and again" if match else ""

"""Is a system message the instruction of the task, or part of the question?

Usually all rows share one instruction, or a few. Where the system messages differ from row to row and the user's turns hardly do
("Route this ticket.", below a system message with the ticket; an Alpaca row with an instruction of its own and a common input), the
former are what is asked: two rows are not the same question because their user turns are equal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from fettle.records import Example

_MOST_SHARED = 0.5
_MOST_DISTINCT_TURNS = 0.8
_FEWEST = 8


def with_contexts(examples: Sequence[Example]) -> tuple[Example, ...]:
    """The examples, each with what its system message asks in `context`; "" for all where system messages are instructions.

    All examples of a study must be given together, so that a question is the same question in each part. System messages are
    what is asked where more than half of them differ in their words, digits apart (dates and numbers make no question), and fewer
    than four fifths of the user's turns differ.
    """
    owns = [_own_system(example) for example in examples]
    present = [own for own in owns if own]
    turns = {example.user_text.strip().casefold() for example in examples}
    differ = {_words(own) for own in present}
    if (
        len(present) < _FEWEST
        or len(differ) <= _MOST_SHARED * len(examples)
        or len(turns) >= _MOST_DISTINCT_TURNS * len(examples)
    ):
        return tuple(example if not example.context else replace(example, context="") for example in examples)
    start, end = _shared_ends(present)
    return tuple(
        replace(example, context=own[start : len(own) - end].strip())
        for example, own in zip(examples, owns, strict=True)
    )


def _own_system(example: Example) -> str:
    return "\n".join(message.content for message in example.prompt if message.is_system)


def _words(text: str) -> str:
    return " ".join(re.sub(r"[\W\d_]+", " ", text.casefold()).split())


def _shared_ends(texts: Sequence[str]) -> tuple[int, int]:
    """Characters, in whole words, with which all texts begin and end: the part of an instruction."""
    first, last = min(texts), max(texts)  # what these two share, all between them share
    start = _whole_words(_num_shared(first, last), first)
    backwards = [text[start:][::-1] for text in texts]
    first, last = min(backwards), max(backwards)
    return start, _whole_words(_num_shared(first, last), first)


def _num_shared(first: str, second: str) -> int:
    return next(
        (place for place, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]),
        min(len(first), len(second)),
    )


def _whole_words(length: int, text: str) -> int:
    return length - len(re.split(r"\s", text[:length])[-1])

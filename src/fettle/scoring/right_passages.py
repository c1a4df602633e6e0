"""Which passages of the right documents answer a question: the same for training rows and for reports."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.records import Example
from fettle.retrieval.records import Passage
from fettle.scoring.containment import holds
from fettle.scoring.graders.groundedness import groundedness
from fettle.scoring.graders.text import right_answers

_SUPPORTING = 0.5
"""Groundedness of an answer in a passage of a right document from which on that passage is taken to answer."""


def answering_passages(example: Example, passages: Sequence[Passage]) -> tuple[Passage, ...]:
    """Of the passages of the right documents those that hold the answer, or else the one that supports it best; none: not clear."""
    if holding := tuple(passage for passage in passages if holds(passage.text, right_answers(example))):
        return holding
    supports = [(support_of(example, passage), -place) for place, passage in enumerate(passages)]
    best, place = max(supports, default=(0.0, 0))
    return (passages[-place],) if best >= _SUPPORTING else ()


def support_of(example: Example, passage: Passage) -> float:
    """How much of the wanted answer a passage supports, word by word, in [0, 1]."""
    found = groundedness(example.answer, passages=[passage.embedded_text], question=example.user_text)
    return 0.0 if found is None else found

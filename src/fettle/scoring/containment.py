"""Whether a text holds an answer word for word."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.scoring.abstention import plain

_MOST_WORDS = 10
"""Longer answers are hardly ever in a document in the same words."""


def is_short(answer: str) -> bool:
    """Whether an answer is one to look for: one to ten words."""
    return 1 <= len(plain(answer).split()) <= _MOST_WORDS


def holds(text: str, answers: Sequence[str]) -> bool:
    """Whether one of the short answers stands in a text, in whole words; case and punctuation do not matter.

    >>> holds("It was opened in 1931, in Sydney.", ["In 1931"]), holds("Opened in 19312", ["1931"])
    (True, False)
    """
    padded = f" {plain(text)} "
    return any(f" {plain(answer)} " in padded for answer in answers if is_short(answer))

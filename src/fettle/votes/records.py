"""What a person can say of two answers, and what is kept of it."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from fettle.errors import ConfigError

MAX_RATER_CHARACTERS = 64
MAX_COMMENT_CHARACTERS = 2000
MAX_SECONDS = 86_400.0


class Choice(StrEnum):
    """What a person says of the two answers as they were shown."""

    LEFT = "left"
    """The first answer is better: on the left, above where the window is narrow."""
    RIGHT = "right"
    TIE = "tie"
    BOTH_BAD = "both bad"
    SKIP = "skip"
    """No vote: the example is not shown to this person again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Which contender's answer stands where."""

    left: str
    right: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What one person said of one example."""

    rater: str
    example_id: str
    sides: Sides
    choice: Choice
    seconds: float
    """From the moment when the answers were shown, the time that the page was hidden left out."""
    at: str
    """ISO 8601, UTC."""
    answers_sha256: str
    """Of the two answers, which another run of the study may change (`poll.Matchup.answers_sha256`)."""
    comment: str = ""

    @property
    def preferred(self) -> str | None:
        """The contender whose answer was found better; None: neither.

        >>> vote = Vote(rater="Ada", example_id="7", sides=Sides(left="tuned", right="prompt"), choice=Choice.RIGHT,
        ...             seconds=4.0, at="2026-11-26T09:00:00+00:00", answers_sha256="")
        >>> vote.preferred
        'prompt'
        """
        return {Choice.LEFT: self.sides.left, Choice.RIGHT: self.sides.right}.get(self.choice)


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """A person takes back what was said of an example."""

    rater: str
    example_id: str
    sides: Sides
    """As in the vote that is taken back."""
    at: str
    """ISO 8601, UTC."""


def standing_votes(records: tuple[Vote | Undo, ...]) -> tuple[Vote, ...]:
    """The votes that hold, the latest last: a later vote of a person on the same two answers replaces the earlier one.

    Args:
        records: As they were written, the earliest first.
    """
    standing: dict[tuple[str, str, frozenset[str]], Vote] = {}
    for record in records:
        key = (record.rater, record.example_id, frozenset((record.sides.left, record.sides.right)))
        standing.pop(key, None)
        if isinstance(record, Vote):
            standing[key] = record
    return tuple(standing.values())


def rater_name(text: str) -> str:
    """A person's name as it is kept: one space between words, one spelling of each character.

    Raises:
        ConfigError: It is empty, too long, or holds characters that cannot be seen.

    >>> rater_name("  Ada   Lovelace ")
    'Ada Lovelace'
    """
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name or len(name) > MAX_RATER_CHARACTERS or not name.isprintable():
        raise ConfigError(
            f"expected a name of 1 to {MAX_RATER_CHARACTERS} characters that can be seen, and it is {name[:80]!r}",
            where="--rater",
            remedy="give the name of the person who votes",
        )
    return name

"""What `fettle advise` says: what was measured or answered, and what follows from it. Frozen, plain data like `fettle.records`.

A `Reason` cannot be made without a measurement or an answer that it rests on, nor an advice without a reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fettle.records import Interval, TaskKind


class Unit(StrEnum):
    """What a measured value counts."""

    SHARE = "share"
    """In [0, 1]."""
    DIFFERENCE = "difference"
    """Of two shares or scores, in [-1, 1]."""
    COUNT = "count"
    """Of what `Measurement.noun` says."""
    TIMES = "times"
    SECONDS = "seconds"
    REQUESTS_PER_DAY = "requests a day"
    MONEY = "money"
    """In the currency that `Measurement.noun` says."""
    WORDS = "words"
    """A finding in words, such as a decision; the value is a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One measured quantity: how much, how sure, and how it was measured."""

    name: str
    """The key in JSON."""
    title: str
    """What was measured, in words."""
    value: float | str
    """A text where the unit is WORDS, else a number."""
    unit: Unit
    how: str
    """How it was measured, and on what; after a study, where in the report it stands."""
    interval: Interval | None = None
    """None: it was counted, or its uncertainty is not known."""
    noun: str = ""
    """What is counted, in the singular; of money, the currency."""
    place: str | None = None
    """Where in `report.json` the value stands, such as `comparisons[0].difference`; None: it was measured now."""

    def __post_init__(self) -> None:
        """Refuse a value that is not of its unit.

        Raises:
            ValueError: The two do not belong together.
        """
        if (self.unit is Unit.WORDS) != isinstance(self.value, str):
            raise ValueError(f"{self.name}: {self.value!r} is no value in {self.unit}")

    @property
    def number(self) -> float:
        """The value, of a measurement that is no text.

        Raises:
            ValueError: It is a text.
        """
        if isinstance(self.value, str):
            raise ValueError(f"{self.name} is a text")
        return self.value

    @property
    def low(self) -> float:
        """The lower bound, or the value where there is no interval."""
        return self.number if self.interval is None else self.interval.low

    @property
    def high(self) -> float:
        """The upper bound, or the value where there is no interval."""
        return self.number if self.interval is None else self.interval.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the user has answered to a question, or what is taken where nobody has."""

    name: str
    """Of the question, as the file of answers calls it."""
    title: str
    """What was asked, in a few words."""
    value: str
    """As people read it."""
    is_said: bool
    """False: nobody has said so, and it is assumed."""


Basis = Measurement | Given
"""What a reason can rest on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why something is advised."""

    text: str
    """A sentence without figures: these stand in what it rests on."""
    rests_on: tuple[Basis, ...]

    def __post_init__(self) -> None:
        """Refuse a reason that rests on nothing.

        Raises:
            ValueError: There is no measurement and no answer.
        """
        if not self.rests_on:
            raise ValueError(f"a reason must rest on something measured or said: {self.text!r}")


class Rung(StrEnum):
    """Ways of doing the task, the cheapest first."""

    PROMPT = "prompt"
    FEW_SHOT = "few_shot"
    CLASSIFIER = "classifier"
    RETRIEVAL = "retrieval"
    TUNED = "tuned"
    TUNED_RETRIEVAL = "tuned_retrieval"
    LARGE = "large"
    """A large prompted model, alone or behind a router that sends it the hard requests."""


class Advised(StrEnum):
    """What to do about a rung."""

    TRY_FIRST = "try first"
    TRY = "try"
    NOT_YET = "not yet"
    """Something else has to come before."""
    SKIP = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class RungAdvice:
    """What is advised about one rung, and why."""

    rung: Rung
    advised: Advised
    reasons: tuple[Reason, ...]
    """The one that decided first."""
    against: tuple[Reason, ...] = ()
    """What speaks for something else."""

    def __post_init__(self) -> None:
        """Refuse advice without a reason.

        Raises:
            ValueError: There is none.
        """
        if not self.reasons:
            raise ValueError(f"{self.rung}: {self.advised} for no reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command line to run next."""

    purpose: str
    words: tuple[str, ...]
    seconds: float | None = None
    """About how long it takes on this machine; None: that was not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstAdvice:
    """What to try, before anything was run."""

    name: str
    """Of the data."""
    task: TaskKind
    sizes: str
    """Of the split that a study will make, in words."""
    measurements: tuple[Measurement, ...]
    """All of them, those that no reason rests on too."""
    answers: tuple[Given, ...]
    before: tuple[Reason, ...]
    """What to mend in the data before anything else."""
    rungs: tuple[RungAdvice, ...]
    """In the order of `Rung`."""
    commands: tuple[Command, ...]
    notes: tuple[str, ...] = ()
    """What could not be measured, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """One thing to do after a study."""

    title: str
    reasons: tuple[Reason, ...]
    commands: tuple[Command, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a step without a reason.

        Raises:
            ValueError: There is none.
        """
        if not self.reasons:
            raise ValueError(f"{self.title!r} for no reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class NextAdvice:
    """What to do after a study, the most important first."""

    name: str
    """Of the study."""
    headline: str
    """Of its verdict."""
    steps: tuple[NextStep, ...]

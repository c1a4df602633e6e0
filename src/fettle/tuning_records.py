"""What was tried for the tuned contender: strengths, settings and numbers of examples. Frozen, plain data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fettle.records import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class StrengthPoint:
    """What an adapter came to at one strength."""

    strength: float
    """Factor of its update; 1 is the adapter as it was trained."""
    validation_score: float | None
    """Mean primary score on the validation examples of the sweep; None: not one answer could be scored."""
    general_score: float
    """Mean score on the general suite."""
    general_change: Interval
    """The same minus the base model's."""
    breaks_budget: bool
    """More was surely lost than may be, on the suite or on the user's own examples: the model would not be shipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StrengthSweep:
    """An adapter tried at several strengths on validation: the task against what was forgotten."""

    points: tuple[StrengthPoint, ...]
    """The weakest first."""
    chosen: float
    """The strength that the study goes on with, stored in its adapter."""
    num_examples: int
    """Validation examples that every strength answered."""


class CurveOutcome(StrEnum):
    """What a learning curve says about twice the examples."""

    MORE_HELPS = "more examples would help"
    MORE_BRINGS_LITTLE = "more examples would bring little"
    CANNOT_SAY = "cannot say"


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """The model trained on so many examples, and its mean score on the test rows."""

    num_examples: int
    score: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningCurve:
    """Scores by training size, and what twice the largest size would add."""

    points: tuple[CurvePoint, ...]
    outcome: CurveOutcome
    gain: Interval | None
    """Of the mean score, from twice the examples; None where the scores follow no such curve: `reason` says why."""
    exponent: Interval | None
    reason: str
    """Why it cannot be said, for the reader; empty where it can."""
    num_unscored: int
    """Test examples left out because not every model's answer could be scored."""

    @property
    def sentence(self) -> str:
        """The result in one sentence, in percentage points."""
        if self.gain is None or self.outcome is CurveOutcome.CANNOT_SAY:
            return f"What twice the examples would bring cannot be said: {self.reason}."
        low, high = (f"{100 * value:.1f}" for value in (self.gain.low, self.gain.high))
        if self.outcome is CurveOutcome.MORE_BRINGS_LITTLE:
            return f"Twice the examples would bring at most {high} points."
        return f"Twice the examples would probably bring {100 * self.gain.estimate:+.1f} points ({low} to {high})."


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What one training of a trial came to, on validation."""

    num_examples: int
    """Training examples that it had."""
    score: float | None
    """Mean primary score on the validation examples of the search; None: not one answer could be scored."""
    valid_loss: float | None
    """Lowest validation loss, nats per trained token."""
    seconds: float
    """Of its steps and evaluations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Settings that were tried."""

    number: int
    """From 1; 1 is what would be trained without a search."""
    learning_rate: float
    epochs: int
    rank: int | None
    """None: no adapter is trained."""
    results: tuple[TrialResult, ...]
    """The fewest examples first; a trial that fell behind has no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsSearch:
    """Settings chosen by successive halving, on validation alone."""

    trials: tuple[Trial, ...]
    chosen: int
    """Number of the trial whose settings the study goes on with."""
    num_examples: int
    """Validation examples that every trial answered."""

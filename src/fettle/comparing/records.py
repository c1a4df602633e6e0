"""What is compared of two finished studies, A and B, and what came of it: frozen, plain data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fettle.records import Comparison
from fettle.report_records import AnswerRow


class Outcome(StrEnum):
    """What two studies can show."""

    BETTER = "better"
    NOT_BETTER = "not better"
    CANNOT_TELL = "cannot tell yet"


class Side(StrEnum):
    """The two studies, as they are called in all that is said of them."""

    FIRST = "A"
    SECOND = "B"


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRow:
    """One question as both studies have it."""

    first: AnswerRow
    second: AnswerRow
    cluster: int
    """Rows that belong together in one of the studies, or in both, have the same one."""

    def of(self, side: Side) -> AnswerRow:
        """The row of one of the studies."""
        return self.first if side is Side.FIRST else self.second


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRows:
    """What two test splits share, in the order of the first."""

    rows: tuple[SharedRow, ...]
    num_first: int
    """Test rows of the first study."""
    num_second: int
    num_other_answer: int
    """Questions of both that are left out because another answer is wanted."""
    has_clusters: bool
    """False: older versions wrote both reports, and only rows with one question are known to belong together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One contender of one of the two studies."""

    side: Side
    contender: str

    def __str__(self) -> str:
        return f"{self.side.value}:{self.contender}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmPair:
    """What is compared: `challenger` minus `baseline`."""

    challenger: Arm
    baseline: Arm


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedArms:
    """One comparison, with the mean scores of both over the pairs that count."""

    comparison: Comparison
    """Its contenders are named as `B:tuned`, `A:tuned`."""
    challenger_mean: float
    """In [0, 1], as that of the baseline."""
    baseline_mean: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedRow:
    """A test row on which the challenger scores otherwise than the baseline."""

    question: str
    wanted: str
    baseline_answer: str
    challenger_answer: str
    baseline_score: float
    challenger_score: float
    source: str
    """Where the challenger's study has the row."""

    @property
    def gain(self) -> float:
        """Challenger minus baseline."""
        return self.challenger_score - self.baseline_score


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not the same in both studies, as JSON values; None: a study has no such thing."""

    group: str
    name: str
    first: Any
    second: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """What a reader must know of one of the studies."""

    side: Side
    name: str
    created_at: str
    base_model: str | None
    num_test: int
    """Its test rows."""
    test_look_number: int
    """As in `report_records.Provenance`, like the number of all looks."""
    num_test_looks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedStudies:
    """Two studies, compared."""

    outcome: Outcome
    """Of the primary comparison."""
    headline: str
    studies: tuple[StudyFacts, StudyFacts]
    primary_metric: str
    worthwhile: float
    """Smallest difference in mean score that was said to matter, in [0, 1]."""
    num_shared: int
    """Test rows that both studies have; nothing else is compared."""
    num_other_answer: int
    """Questions of both that are left out because another answer is wanted."""
    num_clusters: int
    """Groups of shared rows that belong together in either study."""
    comparisons: tuple[ComparedArms, ...]
    """The primary one first."""
    num_more_test_examples: int | None
    """How many more shared rows would probably decide it; None: it is decided, or they would not."""
    fixed: tuple[ChangedRow, ...]
    """Rows on which the primary challenger scores more, those that changed most first."""
    broken: tuple[ChangedRow, ...]
    """Rows on which it scores less."""
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    """What a reader must know before trusting the figures."""

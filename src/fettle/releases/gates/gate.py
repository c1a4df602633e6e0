"""The interface of a gate: what it is given, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from fettle.economics_records import CostBands
from fettle.files import sha256_of_json
from fettle.forgetting.must_still_work import MustStillWork
from fettle.records import Answer, Interval, Message
from fettle.releases.gate_settings import GateSettings
from fettle.releases.records import GateOutcome, GateResult, Release, ReleasedContender
from fettle.report_records import AnswerRow, StudyReport


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredAgain:
    """A test row that the serving engine has answered."""

    row: AnswerRow
    text: str
    seconds: float
    """Wall time of this request, the only one at the time."""
    passages: tuple[str, ...] = ()
    """Ids of what it was shown, in rank order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableRelease:
    """A release that is not what was signed, or is not there any more."""

    number: int
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateInputs:
    """What the gates look at."""

    settings: GateSettings
    report: StudyReport
    contender: str
    """Its key in the report."""
    released: ReleasedContender
    current: Release | UnreadableRelease | None = None
    """The one in force; None: there is none."""
    answered_again: tuple[AnsweredAgain, ...] = ()
    """The same row several times where there are few."""
    not_answered: str | None = None
    """Why the serving engine has answered nothing; None: it has."""
    trained_personal: frozenset[str] | None = None
    """Hashes of the personal data of the training examples (`examples.checks.personal.hashed`); None: the study kept none."""
    prompts: Mapping[str, tuple[Message, ...]] | None = None
    """What was asked, by the row's id; None: what the rows say."""
    must_pass: MustStillWork | None = None
    must_pass_answers: tuple[Answer, ...] = ()
    """In the order of its examples; empty: `not_answered`."""
    money: CostBands | None = None
    """None: no gate asks what it costs, or `no_money` says why that is not known."""
    no_money: str | None = None

    def scores(self, contender: str) -> tuple[float | None, ...]:
        """Primary scores on the test split, in its order."""
        return tuple(row.scores.get(contender) for row in self.report.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a gate has found."""

    outcome: GateOutcome
    sentence: str
    measured: Interval | None = None
    bound: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One gate."""

    name: Literal[
        "win_rate_against_prompt",
        "win_rate_against_current",
        "forgetting",
        "parity",
        "latency",
        "cost_per_request",
        "cost_per_correct_answer",
        "json_validity",
        "personal_data",
        "must_pass",
    ]
    """As in the gates file."""
    look: Callable[[GateInputs], Found]

    def result(self, inputs: GateInputs) -> GateResult | None:
        """What comes of it; None: it is switched off."""
        settings = getattr(inputs.settings, self.name)
        if not settings.is_on:
            return None
        found = self.look(inputs)
        takes_it = found.outcome is GateOutcome.NOT_MEASURED and settings.when_not_measured == "pass"
        return GateResult(
            name=self.name,
            outcome=found.outcome,
            lets_through=takes_it or found.outcome in (GateOutcome.PASSED, GateOutcome.DOES_NOT_APPLY),
            sentence=found.sentence,
            measured=found.measured,
            bound=found.bound,
        )


def not_measured(reason: str) -> Found:
    """It could not be measured, for this reason."""
    return Found(outcome=GateOutcome.NOT_MEASURED, sentence=reason)


def does_not_apply(reason: str) -> Found:
    """There is nothing to measure, for this reason."""
    return Found(outcome=GateOutcome.DOES_NOT_APPLY, sentence=reason)


def failed(reason: str) -> Found:
    """It is on the wrong side of any bound, and there is no figure to tell, for this reason."""
    return Found(outcome=GateOutcome.FAILED, sentence=reason)


def held_against(measured: Interval, bound: float, *, is_right: bool, sentence: str) -> Found:
    """A figure that was measured, and whether it is on the right side of its bound."""
    outcome = GateOutcome.PASSED if is_right else GateOutcome.FAILED
    return Found(outcome=outcome, sentence=sentence, measured=measured, bound=bound)


def row_key(row: AnswerRow) -> str:
    """Which question a row is, in whatever study: the question and the wanted answer, hashed."""
    return sha256_of_json([row.input_text, row.wanted])[:24]


def clusters_of(report: StudyReport) -> list[int]:
    """The cluster of each test row; where an older version did not keep it, each is one of its own."""
    return [row.cluster if row.cluster is not None else -1 - place for place, row in enumerate(report.rows)]


def percent(share: float) -> str:
    """A share in [0, 1] as people read it.

    >>> percent(0.525)
    '52.5 %'
    """
    return f"{100 * share:.1f} %"


def percents(interval: Interval) -> str:
    """A share with its interval."""
    return f"{percent(interval.estimate)} ({percent(interval.low)} to {percent(interval.high)})"

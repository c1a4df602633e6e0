"""What was tried for the tuned contender, as charts and table rows of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fettle.report_records import Forgetting
from fettle.study import figures
from fettle.study.plots import Axis, PlotPoint, point_plot
from fettle.tuning_records import CurveOutcome, LearningCurve, SettingsSearch, StrengthSweep, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRow:
    """One trial as text."""

    number: int
    learning_rate: str
    epochs: str
    rank: str
    scores: tuple[str, ...]
    """By round, in per cent; a dash where the trial was out."""
    is_chosen: bool


def trial_headings(search: SettingsSearch) -> tuple[str, ...]:
    """What the rounds are called: by the number of training examples."""
    longest = max(search.trials, key=lambda trial: len(trial.results))
    return tuple(f"on {figures.count(result.num_examples)}" for result in longest.results)


def trial_rows(search: SettingsSearch) -> tuple[TrialRow, ...]:
    """Every trial, in the order of their numbers."""
    num_rounds = len(trial_headings(search))
    return tuple(
        TrialRow(
            number=trial.number,
            learning_rate=figures.setting(trial.learning_rate),
            epochs=figures.count(trial.epochs),
            rank=figures.MISSING if trial.rank is None else figures.count(trial.rank),
            scores=_scores(trial, num_rounds),
            is_chosen=trial.number == search.chosen,
        )
        for trial in search.trials
    )


def strength_chart(sweep: StrengthSweep, forgetting: Forgetting) -> Markup:
    """How well the task is done at each strength against what the general suite has changed; the chosen strength is ringed."""
    return point_plot(
        [
            PlotPoint(
                x=100 * point.general_change.estimate,
                y=100 * point.validation_score,
                label=f"{point.strength:g}",
                is_accented=point.strength == sweep.chosen,
            )
            for point in sweep.points
            if point.validation_score is not None
        ],
        across=Axis(label="General suite, tuned minus base, points", limit=-forgetting.budget_points, from_zero=True),
        up=Axis(label="Score on validation, %"),
    )


def curve_chart(curve: LearningCurve) -> Markup:
    """The score by number of training examples, and what twice as many would probably come to."""
    points = [
        PlotPoint(
            x=point.num_examples,
            y=100 * point.score.estimate,
            label=figures.fixed(100 * point.score.estimate, 1),
            low=100 * point.score.low,
            high=100 * point.score.high,
        )
        for point in curve.points
    ]
    return point_plot(
        [*points, *_expected(curve)],
        across=Axis(label="Training examples", from_zero=True),
        up=Axis(label="Score on the test split, %"),
    )


def _expected(curve: LearningCurve) -> Sequence[PlotPoint]:
    if curve.gain is None or curve.outcome is CurveOutcome.CANNOT_SAY:
        return ()
    last = curve.points[-1]
    return (
        PlotPoint(
            x=2 * last.num_examples,
            y=100 * (last.score.estimate + curve.gain.estimate),
            label=f"{figures.signed(100 * curve.gain.estimate, 1)}?",
            low=100 * (last.score.estimate + curve.gain.low),
            high=100 * (last.score.estimate + curve.gain.high),
            is_expected=True,
        ),
    )


def _scores(trial: Trial, num_rounds: int) -> tuple[str, ...]:
    told = [figures.MISSING if one.score is None else figures.fixed(100 * one.score, 1) for one in trial.results]
    return (*told, *[figures.MISSING] * (num_rounds - len(told)))

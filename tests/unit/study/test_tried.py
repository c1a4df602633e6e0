"""What is tried before the test split is opened: parts of the examples, settings, strengths."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fettle.models.adapter import LoraVariant
from fettle.records import Example, Interval, Location, Message
from fettle.study.curve import part_of
from fettle.study.settings import STRENGTHS
from fettle.study.settings_search import better_half, drawn_settings
from fettle.study.strength_sweep import chosen_strength
from fettle.training.settings import LoraSettings, Method, TrainingSettings, derived_learning_rate
from fettle.tuning_records import StrengthPoint, TrialResult

NUM_PARAMETERS = 135_000_000


def examples(count: int) -> tuple[Example, ...]:
    return tuple(
        Example(
            id=str(number),
            messages=(Message(role="user", content=f"question {number}"), Message(role="assistant", content="yes")),
            source=Location(file="a.csv", line=number),
        )
        for number in range(count)
    )


def point(strength: float, *, score: float | None, breaks: bool) -> StrengthPoint:
    return StrengthPoint(
        strength=strength,
        validation_score=score,
        general_score=0.5,
        general_change=Interval(estimate=0, low=0, high=0),
        breaks_budget=breaks,
    )


def test_smaller_parts_lie_within_larger_ones() -> None:
    whole = examples(41)
    parts = [part_of(whole, share, seed=3) for share in (0.25, 0.5, 1.0)]
    assert [len(part) for part in parts] == [10, 20, 41]
    assert all({one.id for one in less} < {one.id for one in more} for less, more in pairwise(parts))
    assert parts[-1] == whole
    assert part_of(whole, 0.5, seed=3) == parts[1] != part_of(whole, 0.5, seed=4)
    assert len(part_of(whole, 0.001, seed=0)) == 1


@pytest.mark.parametrize("num_trials", [2, 5, 16])
def test_trials_spread_over_the_learning_rates_and_hold_what_was_given(num_trials: int) -> None:
    given = TrainingSettings(epochs=5, lora=LoraSettings.of_rank(24, LoraVariant.RSLORA))
    drawn = drawn_settings(given, num_trials=num_trials, num_parameters=NUM_PARAMETERS, seed=1)
    usual = derived_learning_rate(NUM_PARAMETERS)
    assert len(drawn) == num_trials
    assert (drawn[0].learning_rate, drawn[0].epochs, drawn[0].lora) == (usual, 5, given.lora)
    rates = sorted(one.learning_rate or 0 for one in drawn[1:])
    edges = [usual * 4 ** (2 * number / (num_trials - 1) - 1) for number in range(num_trials)]
    for rate, (low, high) in zip(rates, pairwise(edges), strict=True):
        assert 0.95 * low <= rate <= 1.05 * high
    assert all(one.lora.variant is LoraVariant.RSLORA for one in drawn)
    assert drawn == drawn_settings(given, num_trials=num_trials, num_parameters=NUM_PARAMETERS, seed=1)


def test_the_rank_is_left_alone_where_no_adapter_is_trained() -> None:
    given = TrainingSettings(method=Method.FULL)
    drawn = drawn_settings(given, num_trials=6, num_parameters=NUM_PARAMETERS, seed=1)
    assert {one.lora for one in drawn} == {given.lora}
    assert len({one.learning_rate for one in drawn}) >= 5  # one of them may be the usual rate again


def test_what_could_not_be_scored_is_the_worst() -> None:
    scores = {0: None, 1: 0.0, 2: None}
    results = {
        number: TrialResult(num_examples=1, score=score, valid_loss=None, seconds=0) for number, score in scores.items()
    }
    assert better_half([0, 1, 2], results) == [1, 0]


@pytest.mark.parametrize(("worthwhile", "chosen"), [(0.0, 0.75), (0.011, 0.5), (0.2, 0.25)])
def test_the_weakest_strength_that_does_the_task_as_well_is_chosen(worthwhile: float, chosen: float) -> None:
    scores = (0.7, 0.8, 0.81, 0.9)
    points = tuple(
        point(strength, score=score, breaks=strength == 1) for strength, score in zip(STRENGTHS, scores, strict=True)
    )
    assert chosen_strength(points, worthwhile=worthwhile) == chosen


def test_full_strength_where_all_break_the_budget_or_nothing_is_scored() -> None:
    for score, breaks in ((0.9, True), (None, False)):
        points = tuple(point(strength, score=score, breaks=breaks) for strength in STRENGTHS)
        assert chosen_strength(points, worthwhile=0.01) == 1

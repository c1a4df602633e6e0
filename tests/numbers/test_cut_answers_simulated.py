"""Studies whose token limit cuts the baseline's answers alone: how often a tuned model that is no better would be shipped.

Both contenders would score alike, were they let to finish: two independent draws from the same beta distribution. The limit cuts a
share of the baseline's answers short, and an answer that is cut loses half of its score.
"""

from __future__ import annotations

import numpy as np
import pytest
from simulated_arms import graded, two_errors

from fettle.records import Answer, Decision, Example, FinishReason, Location, Message, Usage
from fettle.statistics.compare import ScoredArm
from fettle.statistics.intervals import paired_difference
from fettle.study.cut_answers import AnsweredArm, cut_answers
from fettle.study.verdict import MAX_UNSCORED_SHARE, _by_interval, _is_overturned

NUM_STUDIES, NUM_EXAMPLES, WORTHWHILE = 400, 150, 0.01
WANTED = "x" * 20
TEST = [
    Example(
        id=str(number),
        messages=(Message(role="user", content=str(number)), Message(role="assistant", content=WANTED)),
        source=Location(file="made", line=number + 1),
    )
    for number in range(NUM_EXAMPLES)
]
CLUSTERS = list(range(NUM_EXAMPLES))


def shipped(*, share_cut: float, gain: float, seed: int, length: int = 10) -> tuple[float, float]:
    """Share of studies that ship, by the scores alone and by the rule; `length`: at which answers are cut, characters."""
    generator = np.random.default_rng(seed)
    scores = graded(generator, (NUM_STUDIES, NUM_EXAMPLES), means=(0.5 + gain, 0.5))
    by_scores = by_rule = 0
    for ours, theirs in (one.T for one in scores):
        is_cut = generator.random(NUM_EXAMPLES) < share_cut
        theirs = np.where(is_cut, theirs / 2, theirs)
        decision = _by_interval(paired_difference(ours.tolist(), theirs.tolist(), CLUSTERS), WORTHWHILE)
        cut = cut_answers(
            arm("tuned", ours, np.zeros(NUM_EXAMPLES, bool), length),
            arm("base", theirs, is_cut, length),
            TEST,
            CLUSTERS,
            limit=8,
        )
        is_open = (
            cut is not None and cut.share > MAX_UNSCORED_SHARE and _is_overturned(decision, cut.bounds, WORTHWHILE)
        )
        by_scores += decision is Decision.SHIP
        by_rule += decision is Decision.SHIP and not is_open
    return by_scores / NUM_STUDIES, by_rule / NUM_STUDIES


def arm(name: str, scores: np.ndarray, is_cut: np.ndarray, length: int) -> AnsweredArm:
    answers = tuple(
        Answer(
            example_id=example.id,
            text="x" * length if cut else WANTED,
            finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP,
            usage=Usage(prompt_tokens=1, completion_tokens=1, seconds=0.1),
        )
        for example, cut in zip(TEST, is_cut, strict=True)
    )
    scored = ScoredArm(name=name, scores=tuple(scores.tolist()), is_binary=False)
    return AnsweredArm(title=name, answers=answers, scored=scored)


@pytest.mark.parametrize("share_cut", [0.1, 0.3, 0.6])
def test_a_model_that_is_no_better_is_not_shipped_for_what_the_limit_cut_off(share_cut: float) -> None:
    by_scores, by_rule = shipped(share_cut=share_cut, gain=0.0, seed=1)
    assert by_rule <= 0.025 + two_errors(0.025, NUM_STUDIES)
    if share_cut >= 0.3:
        assert by_scores > 0.5, "as it would be without the rule"


def test_few_cut_answers_are_let_pass_and_cost_little() -> None:
    by_scores, by_rule = shipped(share_cut=0.03, gain=0.0, seed=2)
    assert by_rule <= by_scores <= 0.025 + two_errors(0.025, NUM_STUDIES)


@pytest.mark.parametrize(
    ("share_cut", "gain", "length"),
    [
        pytest.param(0.03, 0.1, 10, id="few were cut"),
        pytest.param(0.1, 0.25, 10, id="the gain is larger than all that was cut off"),
        pytest.param(0.3, 0.1, 40, id="what was cut had run on"),
    ],
)
def test_a_model_that_is_better_is_still_shipped(share_cut: float, gain: float, length: int) -> None:
    untouched, _ = shipped(share_cut=0.0, gain=gain, seed=3)
    _, by_rule = shipped(share_cut=share_cut, gain=gain, seed=3, length=length)
    assert by_rule >= untouched - 0.03


def test_a_gain_that_what_was_cut_off_could_undo_waits_for_a_longer_limit() -> None:
    _, by_rule = shipped(share_cut=0.2, gain=0.1, seed=3)
    assert by_rule < 0.1

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fettle.errors import ConfigError
from fettle.releases.challenge import (
    Challenge,
    ChallengeDecision,
    ChallengeKind,
    ChallengeRecord,
    Outcome,
    PairedOutcome,
    goes_to_challenger,
    look_at_canary,
    look_at_shadow,
    weighed_outcomes,
)

CANARY = Challenge(name="triage", challenger=2, kind=ChallengeKind.CANARY, share=0.3, expected_score=0.7)
SHADOW = replace(CANARY, kind=ChallengeKind.SHADOW)


def outcomes(challenge: Challenge, num: int, *, better: float, seed: int = 0) -> list[Outcome]:
    """Thumbs, up for 60 % of the incumbent's answers."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(num):
        is_challenger = goes_to_challenger(challenge, f"chat {number}")
        score = float(rng.random() < 0.6 + better * is_challenger)
        found.append(Outcome(key=f"chat {number}", is_challenger=is_challenger, score=score))
    return found


def pairs(num: int, *, better: float) -> list[PairedOutcome]:
    rng = np.random.default_rng(0)
    drawn = rng.random((num, 2)) < [0.6 + better, 0.6]
    return [
        PairedOutcome(key=f"chat {number}", challenger=float(ours), incumbent=float(theirs))
        for number, (ours, theirs) in enumerate(drawn)
    ]


def test_a_conversation_stays_on_its_side_and_another_challenge_draws_anew() -> None:
    keys = [f"chat {number}" for number in range(4000)]
    one = [goes_to_challenger(CANARY, key) for key in keys]
    assert one == [goes_to_challenger(CANARY, key) for key in keys]
    assert np.mean(one) == pytest.approx(0.3, abs=0.03)
    other = [goes_to_challenger(replace(CANARY, challenger=3), key) for key in keys]
    assert np.mean(np.array(one) & np.array(other)) == pytest.approx(0.09, abs=0.02)


def test_a_greater_share_takes_the_same_conversations_and_more() -> None:
    keys = [f"chat {number}" for number in range(500)]
    few = {key for key in keys if goes_to_challenger(CANARY, key)}
    many = {key for key in keys if goes_to_challenger(replace(CANARY, share=0.6), key)}
    assert few < many


@pytest.mark.parametrize(
    ("better", "decision"),
    [(0.3, ChallengeDecision.PROMOTE), (-0.4, ChallengeDecision.STOP), (0.0, ChallengeDecision.GO_ON)],
)
def test_canaries_and_shadows_are_promoted_stopped_or_go_on(better: float, decision: ChallengeDecision) -> None:
    look = look_at_canary(CANARY, outcomes(CANARY, 600, better=better))
    assert look.decision is decision
    assert look.is_final == (decision is not ChallengeDecision.GO_ON)
    assert look.num_challenger + look.num_incumbent == 600
    assert look.difference.low <= better <= look.difference.high
    assert look_at_shadow(SHADOW, pairs(300, better=better)).decision is decision


def test_the_mean_of_weighed_outcomes_is_the_difference_of_the_arms() -> None:
    is_challenger = np.array([True] * 30 + [False] * 70)
    scores = np.array([1.0] * 24 + [0.0] * 6 + [1.0] * 42 + [0.0] * 28)
    for expected in (0.0, 0.5, 0.7, 1.0):
        weighed, (low, high) = weighed_outcomes(replace(CANARY, expected_score=expected), is_challenger, scores)
        assert weighed.mean() == pytest.approx(0.8 - 0.6)
        assert low <= weighed.min()
        assert weighed.max() <= high


def test_no_outcomes_decide_nothing() -> None:
    look = look_at_canary(CANARY, [])
    assert (look.decision, look.difference.low, look.difference.high) == (ChallengeDecision.GO_ON, -1, 1)
    assert not look.is_uneven


def test_of_a_conversation_the_first_outcome_counts() -> None:
    once = outcomes(CANARY, 50, better=0.3)
    again = [replace(outcome, score=0.0) for outcome in once]
    look = look_at_canary(CANARY, [*once, *again])
    assert replace(look, num_repeats=0) == look_at_canary(CANARY, once)
    assert look.num_repeats == 50


def test_outcomes_of_one_arm_alone_are_uneven_and_promote_nothing() -> None:
    happy = [Outcome(key=f"chat {number}", is_challenger=True, score=1.0) for number in range(200)]
    look = look_at_canary(CANARY, happy)
    assert look.is_uneven
    assert look.evidence_better > 40
    assert look.decision is ChallengeDecision.GO_ON


def test_a_challenge_that_is_not_decided_in_time_is_given_up() -> None:
    limited = replace(CANARY, max_outcomes=100)
    assert look_at_canary(limited, outcomes(limited, 99, better=0.0)).decision is ChallengeDecision.GO_ON
    assert look_at_canary(limited, outcomes(limited, 100, better=0.0)).decision is ChallengeDecision.GIVE_UP


def test_as_good_is_enough_where_it_is_agreed_beforehand() -> None:
    tolerant = replace(SHADOW, better_by=-0.2, worse_by=0.2)
    rows = [replace(one, challenger=one.incumbent) for one in pairs(100, better=0.0)]
    assert look_at_shadow(SHADOW, rows).decision is ChallengeDecision.GO_ON
    assert look_at_shadow(tolerant, rows).decision is ChallengeDecision.PROMOTE


def test_the_first_final_decision_stands() -> None:
    record = ChallengeRecord(challenge=CANARY)
    for num in (20, 600):
        record = record.after(look_at_canary(CANARY, outcomes(CANARY, num, better=0.3)))
    assert record.decision is ChallengeDecision.PROMOTE
    assert len(record.looks) == 2
    with pytest.raises(ValueError, match="is over"):
        record.after(look_at_canary(CANARY, outcomes(CANARY, 700, better=0.3)))


@pytest.mark.parametrize(
    "values",
    [
        {"share": 0.0}, {"share": 1.0}, {"level": 1.0}, {"expected_score": 2.0}, {"max_outcomes": 0}, {"worse_by": -0.1},
        {"better_by": -0.2}, {"better_by": -0.2, "worse_by": 0.1},
    ],
)  # fmt: skip
def test_what_cannot_be_agreed_on_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(CANARY, **values)


def test_scores_outside_their_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        look_at_canary(CANARY, [Outcome(key="a", is_challenger=True, score=2.0)])

"""A challenger beside the release that is in force: who answers whom, and what the outcomes so far say.

A *canary* answers a share of the conversations, and its users see it; outcomes are of one arm or of the other. A *shadow* answers
a share of the conversations beside the incumbent, unseen; a grader or a judge scores both answers, so outcomes come in pairs.
Either way the decision rests on `statistics.anytime`: it may be looked for after every outcome, and the first one is final.

Nothing here asks a model or a database: who serves asks `goes_to_challenger` for each request, and `look_at_canary` or
`look_at_shadow` with the outcomes that there are.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from fettle.errors import ConfigError, require_range
from fettle.records import Interval
from fettle.statistics.anytime import Against, confidence_sequence, log_evidence

_LEAST_SHARE, _MOST_SHARE = 0.01, 0.99


class ChallengeKind(StrEnum):
    """Who sees the challenger's answers."""

    CANARY = "canary"
    """Users do: it answers in place of the incumbent."""
    SHADOW = "shadow"
    """Nobody does: it answers beside the incumbent."""


class ChallengeDecision(StrEnum):
    """What to do now."""

    GO_ON = "go_on"
    """It is not known yet."""
    PROMOTE = "promote"
    """The challenger is better by what was asked for."""
    STOP = "stop"
    """The challenger is worse by more than is tolerated."""
    GIVE_UP = "give_up"
    """As many outcomes as were planned have not decided it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What was agreed before the first outcome. Nothing of it may change while it runs."""

    name: str
    """Of the release that is challenged; with the number, what conversations are assigned by."""
    challenger: int
    """The number of the release that challenges."""
    kind: ChallengeKind
    share: float
    """Of conversations that go to the challenger too (shadow), or instead (canary), in [0.01, 0.99]."""
    better_by: float = 0.0
    """Promoted once its mean score is surely above the incumbent's by this, in [-0.5, 0.5]; negative: it may be so much worse."""
    worse_by: float = 0.0
    """Stopped once its mean score is surely below the incumbent's by more than this, in [0, 0.5]."""
    level: float = 0.95
    """Wrong decisions of either kind, over all looks, have a probability of at most 1 - level together."""
    expected_score: float = 0.5
    """What the incumbent's outcomes are on average, as far as is known, in [0, 1]. A canary with one that is near needs fewer
    outcomes; a wrong one does no other harm."""
    max_outcomes: int | None = None
    """After so many (of both arms; of pairs) the challenge is given up; None: it goes on."""

    def __post_init__(self) -> None:
        require_range("share", self.share, low=_LEAST_SHARE, high=_MOST_SHARE)
        require_range("better_by", self.better_by, low=-0.5, high=0.5)
        require_range("worse_by", self.worse_by, low=0.0, high=0.5)
        require_range("level", self.level, low=0.5, high=0.9999)
        require_range("expected_score", self.expected_score, low=0.0, high=1.0)
        if self.max_outcomes is not None:
            require_range("max_outcomes", self.max_outcomes, low=1)
        if self.better_by < -self.worse_by:
            raise ConfigError(
                f"a challenger between {self.better_by:g} and {-self.worse_by:g} would be both promoted and stopped",
                where="better_by",
                remedy=f"let worse_by be {-self.better_by:g} at least",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How good one answer was, by feedback or by a grader."""

    key: str
    """What was assigned by: the conversation, the user, or the request where neither is known."""
    is_challenger: bool
    score: float
    """In [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedOutcome:
    """How good both answers to one request were; a win, tie or loss by a judge is 1, 1/2 or 0 against 1 less that."""

    key: str
    challenger: float
    """In [0, 1]."""
    incumbent: float
    """In [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What outcomes so far say of a challenge."""

    decision: ChallengeDecision
    difference: Interval
    """The challenger's mean score minus the incumbent's; holds at all looks together."""
    evidence_better: float
    """How many times richer betting on "better by more than `better_by`" has become; 2 / (1 - level) promotes."""
    evidence_worse: float
    """The same of "worse by more than `worse_by`"."""
    num_challenger: int
    """Conversations with an outcome."""
    num_incumbent: int
    num_repeats: int
    """Outcomes of conversations that had one already: they do not count."""
    is_uneven: bool
    """Outcomes come from one arm more often than it was asked (surely, at `level`): who says something is then no fair sample, or
    the assignment is broken. The difference must not be trusted, and nothing is promoted by it."""

    @property
    def is_final(self) -> bool:
        """Whether the challenge is over."""
        return self.decision is not ChallengeDecision.GO_ON


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeRecord:
    """A challenge, and all looks at it."""

    challenge: Challenge
    looks: tuple[Look, ...] = ()

    @property
    def decision(self) -> ChallengeDecision:
        """The first final one: what later looks would say does not count."""
        return next((look.decision for look in self.looks if look.is_final), ChallengeDecision.GO_ON)

    def after(self, look: Look) -> ChallengeRecord:
        """The record with one more look.

        Raises:
            ValueError: The challenge is over.
        """
        if self.decision is not ChallengeDecision.GO_ON:
            raise ValueError(f"the challenge is over: {self.decision}")
        return ChallengeRecord(challenge=self.challenge, looks=(*self.looks, look))


def goes_to_challenger(challenge: Challenge, key: str) -> bool:
    """Whether a conversation goes to the challenger: always the same answer, a fair draw, and of each challenge another one.

    >>> canary = Challenge(name="triage", challenger=4, kind=ChallengeKind.CANARY, share=0.1)
    >>> sum(goes_to_challenger(canary, f"conversation {number}") for number in range(10_000)) // 100
    9
    """
    named = f"{challenge.name}\0{challenge.challenger}\0{challenge.kind}\0{key}"
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:8]) < challenge.share * 2.0**64


def look_at_canary(challenge: Challenge, outcomes: Sequence[Outcome]) -> Look:
    """What a canary's outcomes say.

    The first outcome of a conversation counts.

    Args:
        challenge: What was agreed.
        outcomes: In the order in which they came.

    Raises:
        ValueError: A score is outside [0, 1].
    """
    first: dict[str, Outcome] = {}
    for outcome in outcomes:
        first.setdefault(outcome.key, outcome)
    counted = list(first.values())
    is_challenger = np.array([one.is_challenger for one in counted], dtype=bool)
    weighed, bounds = weighed_outcomes(challenge, is_challenger, _scores([one.score for one in counted]))
    num_challenger = int(is_challenger.sum())
    return _look(
        challenge,
        weighed,
        bounds,
        num_challenger=num_challenger,
        num_incumbent=len(counted) - num_challenger,
        num_repeats=len(outcomes) - len(counted),
        is_uneven=_is_uneven(is_challenger, challenge),
    )


def look_at_shadow(challenge: Challenge, outcomes: Sequence[PairedOutcome]) -> Look:
    """What a shadow's pairs of outcomes say. The first pair of a conversation counts.

    Args:
        challenge: What was agreed.
        outcomes: In the order in which they came.

    Raises:
        ValueError: A score is outside [0, 1].
    """
    first: dict[str, PairedOutcome] = {}
    for outcome in outcomes:
        first.setdefault(outcome.key, outcome)
    ours = _scores([one.challenger for one in first.values()])
    theirs = _scores([one.incumbent for one in first.values()])
    return _look(
        challenge,
        ours - theirs,
        (-1.0, 1.0),
        num_challenger=len(first),
        num_incumbent=len(first),
        num_repeats=len(outcomes) - len(first),
        is_uneven=False,
    )


def weighed_outcomes(
    challenge: Challenge, is_challenger: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Outcomes weighed by how probable their arm was, of the same shape, and what they can be at least and at most.

    Score minus expected score, divided by the share, of the challenger; minus the same of the incumbent. The mean is the
    difference of the arms, whatever changes over the day or the week, since who answers is drawn for each conversation (inverse
    propensity weighting; Horvitz and Thompson 1952).
    """
    centred, share = scores - challenge.expected_score, challenge.share
    above, below = 1 - challenge.expected_score, challenge.expected_score
    bounds = (-max(below / share, above / (1 - share)), max(above / share, below / (1 - share)))
    return np.where(is_challenger, centred / share, -centred / (1 - share)), bounds


def _look(
    challenge: Challenge,
    differences: NDArray[np.float64],
    bounds: tuple[float, float],
    *,
    num_challenger: int,
    num_incumbent: int,
    num_repeats: int,
    is_uneven: bool,
) -> Look:
    """The decision: half of what may go wrong is left to either side."""
    better = log_evidence(differences, challenge.better_by, Against.AT_MOST, bounds=bounds)
    worse = log_evidence(differences, -challenge.worse_by, Against.AT_LEAST, bounds=bounds)
    difference = confidence_sequence(differences, bounds=bounds, level=challenge.level)
    bar = math.log(2 / (1 - challenge.level))
    is_full = challenge.max_outcomes is not None and len(differences) >= challenge.max_outcomes
    if worse >= bar:
        decision = ChallengeDecision.STOP
    elif better >= bar and not is_uneven:
        decision = ChallengeDecision.PROMOTE
    else:
        decision = ChallengeDecision.GIVE_UP if is_full else ChallengeDecision.GO_ON
    return Look(
        decision=decision,
        difference=_within_scores(difference),
        evidence_better=math.exp(min(better, 700.0)),
        evidence_worse=math.exp(min(worse, 700.0)),
        num_challenger=num_challenger,
        num_incumbent=num_incumbent,
        num_repeats=num_repeats,
        is_uneven=is_uneven,
    )


def _within_scores(difference: Interval) -> Interval:
    """Weighed outcomes reach farther than differences of scores can."""
    estimate, low, high = (min(max(one, -1.0), 1.0) for one in (difference.estimate, difference.low, difference.high))
    return Interval(estimate=estimate, low=low, high=high, level=difference.level, method=difference.method)


def _is_uneven(is_challenger: NDArray[np.bool_], challenge: Challenge) -> bool:
    evidence = log_evidence(is_challenger.astype(np.float64), challenge.share, Against.EQUAL, bounds=(0.0, 1.0))
    return evidence >= -math.log1p(-challenge.level)


def _scores(values: Sequence[float]) -> NDArray[np.float64]:
    scores = np.array(values, dtype=np.float64)
    if not np.all((scores >= 0) & (scores <= 1)):
        raise ValueError("scores have to lie between 0 and 1")
    return scores

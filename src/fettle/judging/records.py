"""What a judge said of two contenders' answers, and how far it can be trusted: frozen, plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fettle.judging.reply import Pick
from fettle.records import Interval
from fettle.statistics.agreement import AgreementWithPeople
from fettle.statistics.prediction_powered import PredictionPowered


class Order(StrEnum):
    """Whose answer is shown first."""

    CHALLENGER_FIRST = "challenger first"
    BASELINE_FIRST = "baseline first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two contenders' answers to one test example."""

    example_id: str
    asked: str
    challenger: str
    """The answer, as people would see it."""
    baseline: str
    is_equal: bool
    """Both say the same, so that nobody needs to be asked: it is a tie."""
    cluster: int
    """The near-duplicates it belongs to."""
    score_difference: float | None
    """Challenger minus baseline by the study's primary grader, in [-1, 1]; None: one of the two is unscored."""

    @property
    def length_difference(self) -> int:
        """Characters by which the challenger's answer is longer."""
        return len(self.challenger) - len(self.baseline)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeReply:
    """One reply about one pair."""

    order: Order
    repeat: int
    """From 0."""
    pick: Pick | None
    """None: the reply cannot be read."""
    reason: str

    @property
    def vote(self) -> int | None:
        """1 for the challenger, -1 for the baseline, 0 for a tie; None: the reply cannot be read."""
        place = self.place
        if place is None:
            return None
        return place if self.order is Order.CHALLENGER_FIRST else -place

    @property
    def place(self) -> int | None:
        """1 for the answer shown first, -1 for the other, 0 for a tie; None: the reply cannot be read."""
        return None if self.pick is None else {Pick.FIRST: 1, Pick.SECOND: -1, Pick.TIE: 0}[self.pick]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPair:
    """What came of one pair."""

    example_id: str
    is_equal: bool
    """Both answers say the same: a tie, and nobody was asked."""
    preference: float | None
    """1: the challenger's answer is better, 0: the baseline's, 0.5: a tie. The mean over repeats; None: no repeat has a readable
    reply in both orders."""
    replies: tuple[JudgeReply, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionBias:
    """What the order in which answers are shown does to a judge. Each pair is shown in both orders, so all else cancels."""

    first: Interval
    """Share of replies that prefer the answer shown first, ties as half: one half without bias."""
    inconsistent: Interval
    """Share of pairs on which the two orders give different verdicts, which count as ties."""
    same_answer: Interval | None
    """Share of pairs, of those with a preference in both orders, in which it is for the same answer: one half by coin, 0 where the
    order decides. None: there is no such pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipRate:
    """How often the judge contradicts itself on the very same question."""

    rate: Interval
    """Chance that two replies to the same question give different verdicts."""
    num_questions: int


class LengthBasis(StrEnum):
    """What says that two answers are equally good but for their length."""

    PEOPLE = "people see no difference"
    GRADERS = "graders see no difference"
    NOT_BETTER = "people or graders do not find it better"
    MODEL = "logistic regression over all pairs"


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthPreference:
    """Whether the longer answer wins because it is longer."""

    longer_wins: Interval
    """How often the longer answer wins, ties as half: one half without preference. By `LengthBasis.MODEL`, where it is one standard
    deviation of the length difference longer."""
    basis: LengthBasis
    num_pairs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyCounts:
    """What became of the questions."""

    num_questions: int
    num_readable: int
    num_unreadable: int
    num_failed: int
    """Requests without a reply; the same command asks them again."""
    failures: Mapping[str, int]
    """How often each reason was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingCost:
    """What all replies took, those of earlier runs included."""

    prompt_tokens: int
    reply_tokens: int
    seconds: float
    """Sum of the shares of the wall time."""
    price: float | None
    """In the user's currency; None: no price of tokens was given."""


class FaultKind(StrEnum):
    """What can be wrong with a judge, by name."""

    PREFERS_FIRST = "prefers whichever answer comes first"
    PREFERS_SECOND = "prefers whichever answer comes second"
    LIKE_A_COIN = "is not surely more consistent than a coin"
    NEVER_PREFERS = "calls nearly everything a tie"
    PREFERS_LONGER = "prefers the longer answer"
    PREFERS_SHORTER = "prefers the shorter answer"
    UNREADABLE = "gives replies that cannot be read"
    NOT_LIKE_PEOPLE = "agrees with people no better than chance"
    PEOPLE_CANNOT_TELL = "has not been shown to agree with people"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeFault:
    """One thing wrong with a judge."""

    kind: FaultKind
    is_disqualifying: bool
    """Nothing it says may be used. Otherwise it leans that way, which the figures allow for."""
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedComparison:
    """Two contenders as one judge sees them."""

    judge: str
    rubric: str
    rubric_origin: str
    challenger: str
    baseline: str
    repeats: int
    sample: int | None
    answers_sha256: str
    """Of the pairs, so that answers of another run of the study are noticed."""
    num_pairs: int
    """Pairs of the sample."""
    num_equal: int
    """Of these, pairs whose answers are the same: ties that nobody was asked about."""
    num_unanswered: int
    """Test examples left out before, because a contender did not answer."""
    num_undecided: int
    """Pairs of the sample without a readable reply in both orders, left out of all rates."""
    win_rate: Interval
    """Of the challenger, ties as half."""
    num_wins: int
    num_ties: int
    num_losses: int
    length_controlled: Interval | None
    """The win rate at equal length; None: one contender's answers are longer in nearly all pairs."""
    position: PositionBias | None
    """None: all pairs are equal."""
    length: LengthPreference | None
    """None: lengths never differ, or `length_controlled` is None and no pair tells."""
    flips: FlipRate | None
    """None: there were no repeats."""
    counts: ReplyCounts
    cost: JudgingCost
    agreement: AgreementWithPeople | None
    """With people; None: nobody voted on a pair that it was asked about."""
    corrected: PredictionPowered | None
    """The win rate as people would vote, over pairs whose answers differ; None: as above."""
    faults: tuple[JudgeFault, ...]
    pairs: tuple[JudgedPair, ...]

    @property
    def is_usable(self) -> bool:
        """Whether the rates say anything about the answers."""
        return not any(fault.is_disqualifying for fault in self.faults)

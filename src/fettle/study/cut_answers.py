"""Answers that the token limit cut before they could be right, and whether the verdict hangs on them.

A limit that cuts many answers of one contender and few of the other's is a difference that nobody asked about. A cut answer says
nothing of what would have followed, so a decision must also hold whatever that was, as with answers that could not be scored.

An answer that was cut when it was twice as long as the wanted one already is another matter: it does not come to an end, more room
would not mend it, and it is scored as it stands. So a longer limit always settles the question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fettle.records import Answer, Decision, Example, FinishReason
from fettle.statistics.compare import ScoredArm, UnscoredBounds, unscored_bounds

_RUN_ON_FACTOR = 2
"""An answer of so many times the length of the wanted one, characters, runs on; the limit is no excuse for it."""
_SHARE_WORTH_A_WARNING = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredArm:
    """A contender's answers with their scores, in the order of the test examples."""

    title: str
    answers: tuple[Answer, ...]
    scored: ScoredArm


@dataclass(frozen=True, slots=True, kw_only=True)
class CutAnswers:
    """What the token limit did to two contenders."""

    num_by_title: Mapping[str, int]
    """Answers that were cut short, of the challenger and of the other."""
    num_pairs: int
    """Examples on which an answer of either was cut short."""
    num_examples: int
    bounds: UnscoredBounds
    """The difference with those answers, and those that could not be scored, at their worst."""
    longer_limit: int
    """A limit to try, tokens."""

    @property
    def share(self) -> float:
        """Of the examples that have such an answer."""
        return self.num_pairs / self.num_examples

    def describe(self) -> str:
        """How many of whom, in words."""
        counts = ", ".join(f"{title}: {number:,}" for title, number in self.num_by_title.items())
        return (
            f"answers cut at the token limit: {self.num_pairs:,} of {self.num_examples:,} examples have one ({counts})"
        )

    def why(self, decision: Decision) -> str:
        """Why it cannot be decided so, and what to do."""
        return (
            f"Going by the answers as they stand it would be to {decision.value}; with what the limit cut off taken at its worst "
            f"it would not. Run again with --max-new-tokens {self.longer_limit}: answers that are twice as long as wanted then "
            "count as they stand, and the others come to their end."
        )


def is_cut_short(answer: Answer, wanted: str) -> bool:
    """Whether the limit cut an answer that more room might have made another one."""
    return answer.finish_reason is FinishReason.LENGTH and len(answer.text) < _RUN_ON_FACTOR * len(wanted)


def cut_answers(
    challenger: AnsweredArm,
    other: AnsweredArm,
    test: Sequence[Example],
    clusters: Sequence[int],
    *,
    limit: int,
    level: float = 0.95,
) -> CutAnswers | None:
    """What the token limit did to two contenders; None: it cut no answer of theirs short.

    Args:
        challenger: The tuned contender.
        other: What it is compared with.
        test: The examples.
        clusters: The cluster id of each.
        limit: Longest answer, tokens.
        level: Of the intervals.
    """
    ours, theirs = (_cut_short(arm.answers, test) for arm in (challenger, other))
    if not any(ours) and not any(theirs):
        return None
    return CutAnswers(
        num_by_title={challenger.title: sum(ours), other.title: sum(theirs)},
        num_pairs=sum(our or their for our, their in zip(ours, theirs, strict=True)),
        num_examples=len(test),
        bounds=unscored_bounds(
            _without(challenger.scored, ours), _without(other.scored, theirs), clusters, level=level
        ),
        longer_limit=2 * limit,
    )


def warnings_of_cut(cut: CutAnswers | None) -> tuple[str, ...]:
    """Said where so many were cut short that a reader should know."""
    if cut is None or cut.share <= _SHARE_WORTH_A_WARNING:
        return ()
    told = cut.describe()
    return (
        f"{told[0].upper()}{told[1:]}. What would have followed might score otherwise; try --max-new-tokens {cut.longer_limit}.",
    )


def _cut_short(answers: Sequence[Answer], test: Sequence[Example]) -> list[bool]:
    return [is_cut_short(answer, example.answer) for answer, example in zip(answers, test, strict=True)]


def _without(arm: ScoredArm, is_unknown: Sequence[bool]) -> ScoredArm:
    """The arm with some scores unknown."""
    scores = tuple(None if unknown else score for score, unknown in zip(arm.scores, is_unknown, strict=True))
    return ScoredArm(name=arm.name, scores=scores, is_binary=arm.is_binary)

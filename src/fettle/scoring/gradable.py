"""What a grader makes of the wanted answers themselves, asked before a contender has said a word.

A grader that cannot judge them can judge nothing; one that calls them wrong would call a contender wrong for being right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fettle.errors import DataError
from fettle.examples.notes import info, warning
from fettle.records import Answer, Example, Finding, FinishReason, Score, Usage
from fettle.scoring.grader import Grader, score_answers

_FEWEST = 3
"""Of a held-out part; the smallest validation part that a study cuts has as many."""
_LOW = 0.5
"""A wanted answer with less than that is told of."""
_ANOTHER = "name another --grader, or give examples that this one can score"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedScores:
    """What a grader gives the wanted answers of some examples."""

    grader: Grader
    examples: tuple[Example, ...]
    scores: tuple[Score, ...]
    """In the order of the examples."""

    @property
    def values(self) -> tuple[float, ...]:
        """Those that there are."""
        return tuple(score.value for score in self.scores if score.value is not None)

    @property
    def mean(self) -> float | None:
        """Of all that were scored; None: none was."""
        return sum(self.values) / len(self.values) if self.values else None

    def describe(self) -> str:
        """In words, for a line about the grader."""
        num_unscored = len(self.scores) - len(self.values)
        if self.mean is None:
            return f"can score none of {len(self.scores)} wanted answers"
        left_out = f", and cannot score {num_unscored}" if num_unscored else ""
        return f"gives {len(self.values)} wanted answers {100 * self.mean:.1f} % on average{left_out}"

    def joined(self, other: WantedScores) -> WantedScores:
        """Those of both, by the same grader."""
        return replace(self, examples=self.examples + other.examples, scores=self.scores + other.scores)

    def findings(self) -> tuple[Finding, ...]:
        """The wanted answers that the grader calls rather wrong than right, and those that it cannot score."""
        return tuple(
            found
            for example, score in zip(self.examples, self.scores, strict=True)
            if (found := _finding(self.grader.name, example, score)) is not None
        )


def wanted_scores(grader: Grader, examples: Sequence[Example]) -> WantedScores:
    """Grade each wanted answer as if a contender had given it."""
    scores = score_answers(grader, examples, [_wanted(example) for example in examples])
    return WantedScores(grader=grader, examples=tuple(examples), scores=scores)


def require_gradable(grader: Grader, examples: Sequence[Example], part: str) -> WantedScores:
    """Refuse a part of which the grader could judge fewer than three examples, or than all if there are fewer.

    An example can be judged when its own wanted answer, given as an answer, gets a score.

    Raises:
        DataError: Too few can be judged, or all that can be get a score of 0; the message says why the first one.
    """
    found = wanted_scores(grader, examples)
    unscored = [(e, s) for e, s in zip(found.examples, found.scores, strict=True) if s.value is None]
    if unscored and len(found.values) < min(_FEWEST, len(examples)):
        reasons = Counter(score.reason or "no reason given" for _, score in unscored)
        raise DataError(
            f"{len(unscored)} of {len(examples)} {part} examples cannot be scored by {grader.name}: "
            f"{reasons.most_common(1)[0][0]}",
            where=str(unscored[0][0].source),
            remedy=_ANOTHER,
        )
    if found.values and not any(found.values):
        raise DataError(
            f"{grader.name} gives each of the {len(found.values)} wanted {part} answers a score of 0: whoever answers as wanted "
            "would be wrong",
            where=str(found.examples[0].source),
            remedy="mend the grader, or name another --grader",
        )
    return found


def _finding(name: str, example: Example, score: Score) -> Finding | None:
    if score.value is not None and score.value >= _LOW:
        return None
    if score.value is None:
        problem = f"the wanted answer cannot be scored by {name}: {score.reason}"
        remedy = "leave it if the grader is not meant for such answers; else mend the answer, or the grader"
        return info("wanted-unscored", problem, remedy).at(example.source)
    problem = f"the wanted answer gets {score.value:.2f} from {name}"
    return warning("wanted-scored-low", problem, "mend the answer, or the grader").at(example.source)


def _wanted(example: Example) -> Answer:
    return Answer(
        example_id=example.id,
        text=example.answer,
        finish_reason=FinishReason.STOP,
        usage=Usage(prompt_tokens=0, completion_tokens=0, seconds=0.0),
        choice_log_likelihoods={example.answer: 0.0},
    )

"""The grader for questions of which some have no answer in the documents: to say so is right where it is true, and only there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fettle.records import Answer, Example, Score
from fettle.scoring.abstention import Abstentions, plain
from fettle.scoring.grader import BatchGrader, Grader, scored, unscorable


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOrAbstention:
    """Another grader's score where there is an answer; where there is none, 1 for saying so and 0 for anything else.

    To say that there is none where there is one scores 0; but where documents say so themselves (`Example.is_told`), the grader
    inside decides of that too.
    """

    inner: Grader
    abstentions: Abstentions
    name: str = "answer_or_abstention"

    @property
    def title(self) -> str:
        """That of the grader inside, with what is added."""
        return f"{self.inner.title}, or rightly no answer"

    @property
    def is_binary(self) -> bool:
        """As the grader inside."""
        return self.inner.is_binary

    def score(self, example: Example, answer: Answer) -> Score:
        """In [0, 1]."""
        [score] = self.score_all([(example, answer)])
        return score

    def score_all(self, pairs: Sequence[tuple[Example, Answer]]) -> tuple[Score, ...]:
        """What `score` says of each, in order."""
        settled = [self._settled(example, answer) for example, answer in pairs]
        left = [pair for pair, score in zip(pairs, settled, strict=True) if score is None]
        if isinstance(self.inner, BatchGrader):
            graded = iter(self.inner.score_all(left) if left else ())
        else:
            graded = iter([self.inner.score(example, answer) for example, answer in left])
        return tuple(next(graded) if score is None else score for score in settled)

    def _settled(self, example: Example, answer: Answer) -> Score | None:
        """The score where one of the two says that there is no answer; None: the grader inside decides."""
        if (result := unscorable(example, answer)) is not None:
            return result
        says_none = self.abstentions.is_abstention(answer.text)
        if self.abstentions.is_wanted(example):
            return scored(example, says_none or plain(answer.text) == plain(example.answer))
        return scored(example, 0.0) if says_none and not example.is_told else None

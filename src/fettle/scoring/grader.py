"""The grader interface, and the one way to score a contender's answers: every example exactly once.

A wrong answer scores 0. An answer that cannot be judged (the engine failed, the wanted answer is not of the kind that is graded)
has no score and a reason; it is counted, never averaged in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from fettle.errors import IntegrityError
from fettle.records import Answer, Example, Score


class Grader(Protocol):
    """Turns (example, answer) into a score in [0, 1], or into "could not be scored"."""

    @property
    def name(self) -> str:
        """The key in reports and on the command line, such as `exact_label`."""
        ...

    @property
    def title(self) -> str:
        """The name people read, such as `Exact label`."""
        ...

    @property
    def is_binary(self) -> bool:
        """True when every score is 0 or 1, so that McNemar's test applies."""
        ...

    def score(self, example: Example, answer: Answer) -> Score:
        """The score of one answer; its `value` is None, with a reason, when it cannot be judged."""
        ...


@runtime_checkable
class BatchGrader(Grader, Protocol):
    """A grader for which many answers at once are much less work than one after the other: it asks a model, or starts a sandbox."""

    def score_all(self, pairs: Sequence[tuple[Example, Answer]]) -> tuple[Score, ...]:
        """What `score` says of each, in order."""
        ...


def unscorable(example: Example, answer: Answer) -> Score | None:
    """The unscored result for what no grader can judge; None when the texts can be compared.

    That is an answer that the engine failed to give, and a wanted answer that calls a tool: answers carry text only.
    """
    if answer.has_failed:
        return unscored(example, f"no answer: {answer.error or 'the engine failed'}")
    if example.messages[-1].tool_calls:
        return unscored(example, "the wanted answer calls a tool, and text graders do not judge tool calls")
    return None


def scored(example: Example, value: float) -> Score:
    """A score of `value`, in [0, 1]."""
    return Score(example_id=example.id, value=float(value))


def unscored(example: Example, reason: str, *, is_retried: bool = False) -> Score:
    """The result for an answer that cannot be judged, for `reason`."""
    return Score(example_id=example.id, value=None, reason=reason, is_retried=is_retried)


def pair_answers(examples: Sequence[Example], answers: Sequence[Answer]) -> tuple[tuple[Example, Answer], ...]:
    """Each example with its answer, in the order of the examples, whatever the order of the answers.

    Raises:
        IntegrityError: An example has no answer or more than one, or an answer belongs to no example.
    """
    _refuse_repeats((example.id for example in examples), "examples")
    _refuse_repeats((answer.example_id for answer in answers), "answers")
    answer_by_id = {answer.example_id: answer for answer in answers}
    missing = [example.id for example in examples if example.id not in answer_by_id]
    if missing:
        raise IntegrityError(f"{len(missing)} of {len(examples)} examples have no answer, the first is {missing[0]!r}")
    strangers = answer_by_id.keys() - {example.id for example in examples}
    if strangers:
        raise IntegrityError(f"{len(strangers)} answers belong to no example, the first is {min(strangers)!r}")
    return tuple((example, answer_by_id[example.id]) for example in examples)


def score_answers(grader: Grader, examples: Sequence[Example], answers: Sequence[Answer]) -> tuple[Score, ...]:
    """One score per example, in the order of the examples.

    Raises:
        IntegrityError: Not exactly one answer per example, or the grader broke its promise: a value outside [0, 1], or neither
            a value nor a reason.
    """
    pairs = pair_answers(examples, answers)
    if isinstance(grader, BatchGrader):
        scores = grader.score_all(pairs)
    else:
        scores = tuple(grader.score(example, answer) for example, answer in pairs)
    for score in scores:
        if score.value is None and not score.reason:
            raise IntegrityError(f"grader {grader.name} left {score.example_id!r} unscored without a reason")
        if score.value is not None and not 0.0 <= score.value <= 1.0:
            raise IntegrityError(f"grader {grader.name} gave {score.example_id!r} {score.value}, outside [0, 1]")
    return scores


def _refuse_repeats(ids: Iterable[str], what: str) -> None:
    repeated = [id_ for id_, count in Counter(ids).items() if count > 1]
    if repeated:
        raise IntegrityError(
            f"{len(repeated)} of the {what} have an id used more than once, the first is {repeated[0]!r}"
        )

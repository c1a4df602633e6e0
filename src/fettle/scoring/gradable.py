"""Whether a grader can judge anything of a held-out part, told from the wanted answers before a contender has said a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fettle.errors import DataError
from fettle.records import Answer, Example, FinishReason, Usage
from fettle.scoring.grader import Grader

_FEWEST = 3
"""Of a held-out part; the smallest validation part that a study cuts has as many."""


def require_gradable(grader: Grader, examples: Sequence[Example], part: str) -> None:
    """Refuse a part of which the grader could judge fewer than three examples, or than all if there are fewer.

    An example can be judged when its own wanted answer, given as an answer, gets a score.

    Raises:
        DataError: Too few can be judged; the message says why the first cannot.
    """
    reasons: list[str] = []
    first: Example | None = None
    for example in examples:
        score = grader.score(example, _wanted(example))
        if score.value is None:
            reasons.append(score.reason or "no reason given")
            first = first or example
    if first is None or len(examples) - len(reasons) >= min(_FEWEST, len(examples)):
        return
    raise DataError(
        f"{len(reasons)} of {len(examples)} {part} examples cannot be scored by {grader.name}: "
        f"{Counter(reasons).most_common(1)[0][0]}",
        where=str(first.source),
        remedy="name another --grader, or give examples that this one can score",
    )


def _wanted(example: Example) -> Answer:
    return Answer(
        example_id=example.id,
        text=example.answer,
        finish_reason=FinishReason.STOP,
        usage=Usage(prompt_tokens=0, completion_tokens=0, seconds=0.0),
        choice_log_likelihoods={example.answer: 0.0},
    )

"""The same answer to every message: what a tuned model must beat before it can be said to have understood anything.

Where one label is common, where most fields of a record are usually empty, where all replies open and close alike, an answer which
never looks at the message already scores well, and a model that was tuned may have learned no more than that.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fettle.contenders.language_model import json_separators
from fettle.examples.json_schema import parse_object
from fettle.files import sha256_of_json
from fettle.models.token_groups import even_groups
from fettle.records import Answer, Example, FinishReason, Message, Task, TaskKind, Usage
from fettle.scoring.grader import Grader, score_answers

CONSTANT = "constant"
"""The name of the contender."""
_BATCH_SIZE = 256
_NUM_COMPARED = 40


@dataclass(frozen=True, slots=True)
class ConstantAnswer:
    """One text for all messages."""

    text: str
    origin: str
    """How the text was found, in words."""

    @property
    def name(self) -> str:
        """The key in reports."""
        return CONSTANT

    @property
    def title(self) -> str:
        """What people call it."""
        return "Constant answer"

    @property
    def is_fine_tuned(self) -> bool:
        """There is no model."""
        return False

    def describe(self) -> str:
        """The answer itself."""
        return f"no model: every message gets {self.origin}, {self.text}"

    def told(self, example: Example) -> tuple[Message, ...]:  # noqa: ARG002 (the interface's)
        """Nothing."""
        return ()

    def is_shortened(self, example: Example) -> bool:  # noqa: ARG002 (the interface's)
        """Never: there is no prompt."""
        return False

    def identity(self) -> str:
        """What its answers depend on."""
        return sha256_of_json([self.name, self.text])

    def batches(self, examples: Sequence[Example]) -> tuple[tuple[int, ...], ...]:
        """Batches of 256."""
        return even_groups(len(examples), _BATCH_SIZE)

    def answer(self, examples: Sequence[Example]) -> tuple[Answer, ...]:
        """The text, once for each example."""
        nothing = Usage(prompt_tokens=0, completion_tokens=0, seconds=0.0)
        return tuple(
            Answer(example_id=example.id, text=self.text, finish_reason=FinishReason.STOP, usage=nothing)
            for example in examples
        )


def constant_answer(train: Sequence[Example], task: Task, primary: Grader) -> ConstantAnswer:
    """The best answer that a contender could give without looking at the message, by the training examples.

    Args:
        train: Training examples.
        task: Says what an answer is.
        primary: The grader that decides; for free text it says which training answer is most like the others.
    """
    match task.kind:
        case TaskKind.LABELS:
            label = Counter(example.answer.strip() for example in train).most_common(1)[0][0]
            return ConstantAnswer(label, origin="the commonest label of the training examples")
        case TaskKind.JSON:
            return ConstantAnswer(
                usual_values(train), origin="the value that each field has most often in the training answers"
            )
        case TaskKind.TEXT:
            return ConstantAnswer(
                most_usual_text(train, primary), origin="the training answer that is most like the others"
            )


def most_usual_text(train: Sequence[Example], primary: Grader) -> str:
    """Of the first training answers the one with the highest mean score as the answer to all their messages."""
    few = train[:_NUM_COMPARED]

    def mean_score(text: str) -> float:
        answers = ConstantAnswer(text, origin="").answer(few)
        scores = [score.value for score in score_answers(primary, few, answers) if score.value is not None]
        return sum(scores) / len(scores) if scores else 0.0

    return max(dict.fromkeys(example.answer for example in few), key=mean_score)


def usual_values(train: Sequence[Example]) -> str:
    """The JSON object of the value that each field has most often in training answers; fields that most lack are left out.

    Of values that are equally common the first one counts.
    """
    objects = [found for example in train if (found := parse_object(example.answer)) is not None]
    counts: dict[str, Counter[str]] = {}
    for one in objects:
        for key, value in one.items():
            counts.setdefault(key, Counter())[json.dumps(value, sort_keys=True)] += 1
    usual = {
        key: json.loads(values.most_common(1)[0][0])
        for key, values in counts.items()
        if 2 * values.total() > len(objects)
    }
    item, separator = json_separators([example.answer for example in train])
    return json.dumps(usual, ensure_ascii=False, separators=None if item is None else (item, separator or ": "))

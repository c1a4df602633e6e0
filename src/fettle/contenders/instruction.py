"""What a prompted model is told: the user's instruction, or one derived from the training examples.

Derived texts state only what the training examples show. The brief instruction takes the place of a missing system message, for all
contenders alike; the hint is what an honest engineer would add for a model that was not trained: the labels, the keys, the form.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import quantiles

from fettle.errors import DataError
from fettle.records import Example, Message, Task, TaskKind

_MAX_LABELS_IN_BRIEF = 12


def has_instruction(example: Example) -> bool:
    """True where the example begins with a system message of its own."""
    return example.messages[0].is_system


def with_instruction(example: Example, instruction: str) -> Example:
    """The example with `instruction` as its only system message, before what the example's own one asks, if it asks something."""
    others = tuple(message for message in example.messages if not message.is_system)
    own = [message.content for message in example.messages if message.is_system and example.context]
    return replace(example, messages=(Message(role="system", content="\n\n".join([instruction, *own])), *others))


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What stands before every example's message."""

    text: str | None
    """None: each example keeps its own system message."""
    origin: str
    """Where it comes from, in words."""
    is_for_bare: bool = False
    """Examples with a system message of their own keep it; the text is for the others."""

    def on(self, example: Example) -> Example:
        """The example with this instruction."""
        if self.text is None or (self.is_for_bare and has_instruction(example)):
            return example
        return with_instruction(example, self.text)

    def describe(self) -> str:
        """The origin and the beginning of the text."""
        if self.text is None:
            return self.origin
        return f"{self.origin}: {self.text[:200]}{'...' if len(self.text) > 200 else ''}"


def choose_instruction(
    given: str | None,
    task: Task,
    *,
    train: Sequence[Example],
    everything: Sequence[Example],
    giver: str = "given by the user",
) -> Instruction:
    """The user's instruction; else the examples' own; examples that have none get the one the others share, or a derived one.

    Where all examples share one, it is told as the text, and changes nothing about them.

    Raises:
        DataError: The user's instruction would take the place of the only text that an example asks with.
    """
    if given is not None:
        _require_questions(everything)
        return Instruction(text=given, origin=giver)
    own = {example.messages[0].content for example in everything if has_instruction(example)}
    if all(has_instruction(example) for example in everything):
        if len(own) == 1:  # known as the instruction, so that a release can put it before requests that come without
            return Instruction(text=own.pop(), origin="the examples' own system message", is_for_bare=True)
        return Instruction(text=None, origin="the examples' own system messages")
    if not own:
        return Instruction(text=derive_instruction(task, train), origin="derived from the training examples")
    if len(own) == 1:
        origin = "the examples' own system message, also for those that have none"
        return Instruction(text=own.pop(), origin=origin, is_for_bare=True)
    origin = "the examples' own system messages; for those that have none, derived from the training examples"
    return Instruction(text=derive_instruction(task, train), origin=origin, is_for_bare=True)


def _require_questions(examples: Sequence[Example]) -> None:
    bare = [e for e in examples if not e.context and all(m.is_system for m in e.prompt)]
    if bare:
        raise DataError(
            f"{len(bare):,} example(s), this one first, ask in their system message alone, and --instruction would take its place",
            where=str(min((e.source for e in bare), key=lambda place: (place.file, place.line))),
            remedy="put what is asked into a user message, or leave --instruction out",
        )


def derive_instruction(task: Task, train: Sequence[Example]) -> str:
    """A brief instruction for examples that bring none."""
    match task.kind:
        case TaskKind.LABELS:
            if len(task.labels) <= _MAX_LABELS_IN_BRIEF:
                return f"Answer with the one label that fits the message: {', '.join(task.labels)}."
            return f"Answer with the one of {len(task.labels)} labels that fits the message, and nothing else."
        case TaskKind.JSON:
            keys = ", ".join(json.loads(task.json_schema or "{}").get("properties", {}))
            return f"Read the message and answer with one JSON object with the keys {keys}."
        case TaskKind.TEXT:
            return f"Answer the message in the house style, in {_usual_length(train)}."


def derive_hint(task: Task, train: Sequence[Example], style_rules: Sequence[str] = ()) -> str:
    """What to add to an instruction for a model that was not trained on the examples.

    Args:
        task: What was recognised.
        train: The training examples; no others are looked at.
        style_rules: For free text, what the house-style grader learned from them, in words.
    """
    match task.kind:
        case TaskKind.LABELS:
            return "Answer with exactly one of these labels and nothing else:\n" + "\n".join(task.labels)
        case TaskKind.JSON:
            lines = _describe_fields(json.loads(task.json_schema or "{}"))
            return "Answer with one JSON object and nothing else. Its keys:\n" + "\n".join(lines)
        case TaskKind.TEXT:
            rules = [f"Write {_usual_length(train)}.", *(rule.rstrip(".") + "." for rule in style_rules)]
            return "The answer has this form:\n" + "\n".join(f"- {rule}" for rule in rules)


def _describe_fields(schema: dict[str, object]) -> list[str]:
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return []
    lines = []
    for name, field in properties.items():
        if "enum" in field:
            allowed = ", ".join(json.dumps(value, ensure_ascii=False) for value in field["enum"])
            lines.append(f"- {json.dumps(name)}: one of {allowed}")
        else:
            kinds = field.get("type", "any value")
            words = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
            lines.append(f"- {json.dumps(name)}: {words}")
    return lines


def _usual_length(train: Sequence[Example]) -> str:
    """The words of the middle four fifths of the training answers."""
    lengths = [len(example.answer.split()) for example in train]
    if len(lengths) < 2:
        low, high = (lengths[0], lengths[0]) if lengths else (1, 100)
    else:
        deciles = quantiles(lengths, n=10)
        low, high = max(1, int(deciles[0])), max(1, round(deciles[-1]))
    return f"{low} to {high} words" if low < high else f"about {high} word{'s' if high != 1 else ''}"

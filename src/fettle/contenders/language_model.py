"""A language model as a contender: an engine and a way to put the prompt to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fettle.answering.engine import Engine, GenerationOptions
from fettle.contenders.prompt import PromptStyle
from fettle.files import sha256_of_json
from fettle.records import Answer, Example, Message, Prompt, Task, TaskKind, num_text_bytes

_ENFORCED_FORM = {
    TaskKind.LABELS: "; it can only answer with one of the labels",
    TaskKind.JSON: "; its answer is kept inside the JSON schema of the training answers",
    TaskKind.TEXT: "",
}
_ZERO_SHOT = ". One zero-shot prompt: it is shown no examples, and no variants of the prompt are tried"
_REQUESTED_FORM = {
    TaskKind.LABELS: f"; it is asked for one of the labels as structured output{_ZERO_SHOT}",
    TaskKind.JSON: f"; it is asked for the JSON schema of the training answers as structured output{_ZERO_SHOT}",
    TaskKind.TEXT: _ZERO_SHOT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModel:
    """An engine, asked in one style. For a label task it may answer with a label and nothing else."""

    name: str
    title: str
    engine: Engine
    style: PromptStyle
    task: Task
    options: GenerationOptions
    is_fine_tuned: bool = False
    engine_identity: str = ""
    """Hash of the weights, adapter included."""
    is_remote: bool = False
    """An endpoint's model: the form of its answers can be asked for, not enforced."""

    def describe(self) -> str:
        """How it answers, in words."""
        form = (_REQUESTED_FORM if self.is_remote else _ENFORCED_FORM)[self.task.kind]
        return f"{self.engine.name}: {self.style.describe()}{form}"

    def told(self, example: Example) -> tuple[Message, ...]:
        """The conversation that the engine is asked to go on with."""
        return self.prompt(example).messages

    def is_shortened(self, example: Example) -> bool:
        """Whether the prompt lost shots or the hint because it was too long for the model."""
        return self.prompt(example).messages != self.style.messages(example)

    def identity(self) -> str:
        """Everything its answers depend on but the examples."""
        parts = [self.engine.name, self.engine_identity, self.style.describe(), self.style.hint, repr(self.options)]
        return sha256_of_json([*parts, self.task.kind.value, list(self.task.labels)])

    def prompt(self, example: Example) -> Prompt:
        """What the engine is asked: in its style, with less before the message where it would not fit the context."""
        return self.fitting(example)[1]

    def fitting(self, example: Example) -> tuple[PromptStyle, Prompt]:
        """What the engine is asked, and the style, shortened until it fits."""
        return fitted(self.style, example, self.fits)

    def fits(self, prompt: Prompt) -> bool:
        """Whether a prompt leaves room for an answer."""
        limit = self.engine.max_tokens
        return limit is None or leaves_room(
            prompt, num_tokens=self.engine.count_prompt_tokens, room=limit - self.options.max_new_tokens
        )

    def batches(self, examples: Sequence[Example]) -> tuple[tuple[int, ...], ...]:
        """As the engine divides the prompts."""
        return self.engine.batches([self.prompt(example) for example in examples])

    def answer(self, examples: Sequence[Example]) -> tuple[Answer, ...]:
        """One answer for each example."""
        prompts = [self.prompt(example) for example in examples]
        if self.task.kind is TaskKind.LABELS:
            return self.engine.choose(prompts, self.task.labels)
        return self.engine.generate(prompts, self.options)


def fitted(style: PromptStyle, example: Example, fits: Callable[[Prompt], bool]) -> tuple[PromptStyle, Prompt]:
    """A prompt in the style, shortened until it fits or nothing is left to be taken away; and the style that made it."""
    while True:
        prompt = Prompt(example_id=example.id, messages=style.messages(example), tools=example.tools)
        shorter = style.shorter()
        if shorter is None or fits(prompt):
            return style, prompt
        style = shorter


def leaves_room(prompt: Prompt, *, num_tokens: Callable[[Prompt], int], room: int) -> bool:
    """Whether a prompt has at most `room` tokens; they are counted only where the bytes do not tell.

    A token is at least one byte, and a template adds less than half of the room.
    """
    return num_text_bytes(prompt.messages, prompt.tools) < room // 2 or num_tokens(prompt) <= room


def json_separators(answers: Sequence[str]) -> tuple[str | None, str | None]:
    """Item and key separator that all these answers are written with; (None, None) where they differ among themselves."""
    for separators in ((", ", ": "), (",", ":")):
        if all(_is_written_with(answer, separators) for answer in answers):
            return separators
    return None, None


def _is_written_with(text: str, separators: tuple[str, str]) -> bool:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return False
    return text.strip() in (json.dumps(value, separators=separators, ensure_ascii=ascii_) for ascii_ in (False, True))

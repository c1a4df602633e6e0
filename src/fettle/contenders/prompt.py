"""The example's own conversation, with or without a hint about the form of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fettle.chat.instruction import with_instruction_end
from fettle.records import Example, Message, Prompt


class PromptStyle(Protocol):
    """How a conversation is put to a model. Looks at everything of an example but its answer."""

    @property
    def hint(self) -> str | None:
        """Added to the instruction; None: nothing is."""
        ...

    def messages(self, example: Example) -> tuple[Message, ...]:
        """The conversation to be answered."""
        ...

    def shown(self, example: Example) -> tuple[Example, ...]:
        """The training examples that stand before it with their answers."""
        ...

    def shorter(self) -> PromptStyle | None:
        """The same with less before the message, for one that would not fit into the model's context; None: there is no less."""
        ...

    def describe(self) -> str:
        """The style in words."""
        ...


@dataclass(frozen=True, slots=True)
class OwnPrompt:
    """The instruction and the message, as the examples have them. What the tuned model is trained on."""

    hint: str | None = None
    """Added to the instruction; None: nothing is."""

    def messages(self, example: Example) -> tuple[Message, ...]:
        """The conversation to be answered."""
        return with_hint(example.prompt, self.hint)

    def shorter(self) -> OwnPrompt | None:
        """Without the hint; the message alone cannot be shortened."""
        return OwnPrompt() if self.hint else None

    def shown(self, example: Example) -> tuple[Example, ...]:  # noqa: ARG002 (as other styles have it)
        """Nothing."""
        return ()

    def describe(self) -> str:
        """The style in words."""
        return "the instruction and the message" + (
            ", with a hint derived from the training examples" if self.hint else ""
        )


def bare_prompt(example: Example) -> Prompt:
    """An example's conversation up to its answer, nothing added."""
    return Prompt(example_id=example.id, messages=example.prompt, tools=example.tools)


def with_hint(messages: Sequence[Message], hint: str | None) -> tuple[Message, ...]:
    """The conversation with a hint at the end of its instruction.

    >>> with_hint([Message(role="user", content="Hi")], "Be brief.")[0].content
    'Be brief.'
    """
    return tuple(messages) if hint is None else with_instruction_end(messages, hint)

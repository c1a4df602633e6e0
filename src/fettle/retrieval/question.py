"""What is searched for when a conversation is to be answered: the same for studies, training and chats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fettle.records import Example, Message

_NUM_TURNS = 2
"""A question that goes on from another ("And in winter?") is understood with it; what was asked before that, seldom matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemPart:
    """Where system messages ask, which part of them is searched for: all but the words that every one begins and ends with."""

    begin: str = ""
    end: str = ""

    def of(self, messages: Sequence[Message]) -> str:
        """The part of a conversation's system messages.

        >>> SystemPart(begin="Answer the mail.").of([Message(role="system", content="Answer the mail.\\nWhere is my parcel?")])
        'Where is my parcel?'
        """
        return _system_text(messages).removeprefix(self.begin).removesuffix(self.end).strip()


def question_of(messages: Sequence[Message], part: SystemPart | None = None) -> str:
    """What the user asks last, and below it what they asked before that; the last turn where the user says nothing.

    The last turn stands first, because an embedder reads no more than the beginning of a long text. Nothing that the assistant said
    is looked for.

    Args:
        messages: Up to the answer.
        part: Of the system message, which stands last; None: that is an instruction.

    >>> question_of([Message(role="user", content="How long is the bridge?"), Message(role="assistant", content="504 metres."),
    ...              Message(role="user", content="And how old?")])
    'And how old?\\nHow long is the bridge?'
    """
    return _asked(messages, "" if part is None else part.of(messages))


def question_of_example(example: Example) -> str:
    """What an example asks, a context of its own included; its answer is not looked at."""
    return _asked(example.prompt, example.context)


def system_part_of(examples: Sequence[Example]) -> SystemPart | None:
    """The part of system messages that is the examples' context; None: system messages are instructions."""
    asking = [example for example in examples if example.context and example.context in _system_text(example.prompt)]
    if not asking:
        return None
    longest = max(asking, key=lambda example: len(example.context))  # a short one may stand in the shared words, too
    begin, _, end = _system_text(longest.prompt).partition(longest.context)
    return SystemPart(begin=begin.rstrip(), end=end.lstrip())


def _asked(messages: Sequence[Message], in_system: str) -> str:
    turns = [message.content for message in messages if message.role == "user"][-_NUM_TURNS:]
    if not turns and not in_system:
        return messages[-1].content if messages else ""
    return "\n".join([*reversed(turns), *([in_system] if in_system else [])])


def _system_text(messages: Sequence[Message]) -> str:
    return "\n".join(message.content for message in messages if message.is_system)

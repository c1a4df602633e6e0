"""The instruction of a conversation: its first message, where that is a system message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fettle.records import Message


def with_instruction_end(messages: Sequence[Message], text: str) -> tuple[Message, ...]:
    """The conversation with `text` at the end of its instruction; one is made where there is none.

    >>> with_instruction_end([Message(role="user", content="Hi")], "Be brief.")[0].content
    'Be brief.'
    """
    if messages and messages[0].is_system:
        return (replace(messages[0], content=f"{messages[0].content}\n\n{text}"), *messages[1:])
    return (Message(role="system", content=text), *messages)

"""What is searched for when a conversation is to be answered: the same for studies, training and chats."""

from __future__ import annotations

from collections.abc import Sequence

from fettle.records import Example, Message

_NUM_TURNS = 2
"""A question that goes on from another ("And in winter?") is understood with it; what was asked before that, seldom matters."""


def question_of(messages: Sequence[Message]) -> str:
    """What the user asks last, and below it what they asked before that; the last turn where the user says nothing.

    The last turn stands first, because an embedder reads no more than the beginning of a long text. Nothing that the assistant said
    is looked for.

    >>> question_of([Message(role="user", content="How long is the bridge?"), Message(role="assistant", content="504 metres."),
    ...              Message(role="user", content="And how old?")])
    'And how old?\\nHow long is the bridge?'
    """
    asked = [message.content for message in messages if message.role == "user"]
    if not asked:
        return messages[-1].content if messages else ""
    return "\n".join(reversed(asked[-_NUM_TURNS:]))


def question_of_example(example: Example) -> str:
    """What an example asks, a context of its own included; its answer is not looked at."""
    question = question_of(example.prompt)
    return f"{question}\n{example.context}" if example.context else question

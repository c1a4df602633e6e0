"""What every format shares: values as text, and the rules that the turns of a conversation keep."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from itertools import pairwise
from typing import Any

from fettle.examples.notes import Note, UnusableRowError, repaired, warning
from fettle.records import Message

_PLACEHOLDERS = frozenset({"n/a", "#n/a", "nan", "null", "<na>"})
"""What programs write for "nothing here"; a label may really be called so, a customer's message is not."""
_SPREADSHEET_ERRORS = frozenset({"#n/a", "#ref!", "#value!", "#name?", "#div/0!", "#null!", "#num!"})


def plain_text(value: Any) -> str:
    """A value of a record as text: objects as JSON with their keys in the order given, null as nothing.

    >>> plain_text({"b": 1, "a": None}), plain_text(None), plain_text(True), plain_text(7)
    ('{"b": 1, "a": null}', '', 'true', '7')
    """
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, date | time | Decimal | bytes):
        return _bare_text(value)
    return json.dumps(value, ensure_ascii=False, default=_bare_text)


def _bare_text(value: Any) -> str:
    """What JSON has no form for: dates, exact decimals, and text that a file stores as bytes.

    Raises:
        UnusableRowError: The bytes are no text.
    """
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise UnusableRowError("not-utf8", "holds bytes that are not UTF-8", "store it as text") from None
    return str(value)


def identifier(values: Mapping[str, Any], key: str | None) -> str | None:
    """The row's own name under `key`; None when it has none."""
    value = values.get(key) if key else None
    if value is None or isinstance(value, Mapping | list | bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # what a table makes of whole numbers when one of them is missing
    return str(value).strip() or None


def group_name(values: Mapping[str, Any], key: str | None) -> str | None:
    """The group under `key`; None where the row has none, or something that stands for none: all such rows are not one group."""
    name = identifier(values, key)
    return None if name is None or is_blank(name) or name.lower() in _PLACEHOLDERS else name


def pair(input_text: str, answer: str) -> tuple[Message, ...]:
    """A question with its answer.

    Raises:
        UnusableRowError: One of them holds no text.
    """
    if is_blank(input_text) or input_text.strip().lower() in _PLACEHOLDERS - _SPREADSHEET_ERRORS:
        raise UnusableRowError("empty-input", "the input is empty", "fill it in, or remove the row")
    for text in (input_text, answer):
        if text.strip().lower() in _SPREADSHEET_ERRORS:
            problem = f"a cell holds the spreadsheet's error {text.strip()}"
            raise UnusableRowError("spreadsheet-error", problem, "mend the formula, or remove the row")
    if is_blank(answer):
        raise _empty_answer(answer)
    return (Message(role="user", content=input_text), Message(role="assistant", content=answer))


def _empty_answer(text: str) -> UnusableRowError:
    sign = text.strip()
    if not sign:
        return UnusableRowError("empty-answer", "the answer is empty", "fill it in, or remove the row")
    problem = f"the answer is {sign[:20]!r}, which is taken for none"
    return UnusableRowError("empty-answer", problem, "write out what it stands for, such as 'none', or remove the row")


def is_blank(text: str) -> bool:
    """True for text without a letter, digit or symbol: spaces, or punctuation that stands for nothing, such as `-` and `.`.

    >>> is_blank(" - "), is_blank("?"), is_blank("👍"), is_blank("7")
    (True, False, False, False)
    """
    return not text.strip(" \t\r\n\v\f\u00a0\u200b\ufeff.-–—_,;:/|*~\"'`")


def up_to_wanted_answer(messages: tuple[Message, ...]) -> tuple[tuple[Message, ...], tuple[Note, ...]]:
    """The turns up to the last answer that is to be learned: one with weight 0 is context, never the wanted answer.

    Nothing is learned from turns behind that answer, so training is the same without them.

    Raises:
        UnusableRowError: Every answer has weight 0.
    """
    if not messages or messages[-1].role != "assistant" or messages[-1].weight != 0:
        return messages, ()
    learned = [number for number, message in enumerate(messages, start=1) if _is_learned(message)]
    if not learned:
        raise UnusableRowError(
            "nothing-trained",
            "every answer has weight 0, so there is nothing to learn",
            "set the weight of the wanted answer to 1, or remove the row",
        )
    note = repaired(
        "cut-at-weight",
        f"the last answer has weight 0; message {learned[-1]} is taken as the wanted answer, and what follows is left out",
        "set the weight of the last answer to 1 if it is the wanted one",
    )
    return messages[: learned[-1]], (note,)


def _is_learned(message: Message) -> bool:
    return message.role == "assistant" and message.weight != 0


def check_turns(messages: tuple[Message, ...]) -> tuple[Note, ...]:
    """What is unusual about the turns.

    Raises:
        UnusableRowError: They cannot be an example: no assistant, no answer at the end, a tool result without its call.
    """
    if not any(message.role == "assistant" for message in messages):
        raise UnusableRowError(
            "no-assistant", "no message is from the assistant", "add the wanted answer as last message"
        )
    answer = messages[-1]
    if answer.role != "assistant":
        raise UnusableRowError(
            "no-answer-at-end",
            f"expected the assistant's answer last, and the last message is from the {answer.role}",
            "end the conversation with the wanted answer",
        )
    if is_blank(answer.content) and not answer.tool_calls:
        raise _empty_answer(answer.content)
    asked = [message for message in messages[:-1] if message.role == "user"]
    if not messages[:-1] or (asked and all(is_blank(message.content) for message in asked)):
        raise UnusableRowError("empty-input", "nothing is asked", "add the user's message before the answer")
    _check_tool_results(messages)
    return tuple(_unusual(messages, asked))


def _check_tool_results(messages: tuple[Message, ...]) -> None:
    called: set[str] = set()
    for number, message in enumerate(messages, start=1):
        if message.role == "tool" and message.tool_call_id not in called:
            raise UnusableRowError(
                "tool-result-without-call",
                f"message {number}: a tool result must carry the tool_call_id of a call made before it",
                "add the assistant's tool_calls message, or correct the id",
            )
        called.update(call.id for call in message.tool_calls)


def _unusual(messages: tuple[Message, ...], asked: list[Message]) -> list[Note]:
    notes: list[Note] = []
    if not asked:
        notes.append(warning("no-user-message", "no message is from the user", "add what the user asked"))
    if sum(message.is_system for message in messages) > 1:
        notes.append(warning("two-system-messages", "more than one system message", "join them into the first"))
    if any(first.role == second.role == "user" for first, second in pairwise(messages)):
        notes.append(warning("two-user-messages", "two user messages in a row", "join them, or add the answer between"))
    assistant_turns = [message for message in messages if message.role == "assistant"]
    if any(is_blank(message.content) and not message.tool_calls for message in assistant_turns):
        notes.append(warning("empty-turn", "an earlier answer of the assistant is empty", "fill it in, or remove it"))
    return notes

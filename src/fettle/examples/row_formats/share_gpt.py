"""ShareGPT rows: `{"conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}]}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fettle.examples.notes import UnusableRowError
from fettle.examples.row_format import Conversation
from fettle.examples.row_formats.chat import conversation_from_messages, system_message
from fettle.examples.row_formats.truth import TRUTH_KEYS

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "system": "system",
}


class ShareGptFormat:
    """Reads `from`/`value` turns; rows whose turns already have `role`/`content` are read too."""

    name = "ShareGPT"

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Whether there is a `conversations` key (or `conversation`)."""
        return "conversations" in values or "conversation" in values

    def convert(self, values: Mapping[str, Any]) -> Conversation:
        """The turns with their senders renamed.

        Raises:
            UnusableRowError: A turn is malformed or its sender unknown.
        """
        turns = values.get("conversations", values.get("conversation"))
        if not isinstance(turns, list) or not turns:
            raise UnusableRowError("bad-messages", "`conversations` must be a list with at least one turn", "add turns")
        messages = [_message(turn, number) for number, turn in enumerate(turns, start=1)]
        messages = [*system_message(values), *messages]
        known = {key: values[key] for key in ("id", "group", "functions", *TRUTH_KEYS) if key in values}
        if (tools := values.get("tools")) not in (None, "", []):
            known["tools"] = _tools(tools)
        return conversation_from_messages(messages, known)


def _tools(tools: Any) -> Any:
    """Tools as OpenAI writes them; here they may be a JSON text, and functions without a wrapper.

    Raises:
        UnusableRowError: The text is not JSON.
    """
    try:
        parsed = json.loads(tools) if isinstance(tools, str) else tools
    except (ValueError, RecursionError):
        raise UnusableRowError("bad-tools", "`tools` is a text, and not JSON", "write a list of tools") from None
    if not isinstance(parsed, list):
        return parsed
    return [{"function": tool} if isinstance(tool, Mapping) and "function" not in tool else tool for tool in parsed]


def _message(turn: Any, number: int) -> dict[str, Any]:
    if not isinstance(turn, Mapping):
        raise UnusableRowError("bad-message", f"turn {number} must be an object", 'write {"from": …, "value": …}')
    if "role" in turn:
        return dict(turn)
    sender = turn.get("from")
    role = _ROLES.get(sender) if isinstance(sender, str) else None
    if role is None:
        raise UnusableRowError(
            "bad-role",
            f"turn {number}: `from` must be one of {', '.join(_ROLES)}, not {str(sender)[:40]!r}",
            "rename it",
        )
    message = {"role": role, "content": turn.get("value")}
    return message | {"weight": turn["weight"]} if "weight" in turn else message

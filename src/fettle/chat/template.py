"""A model's own chat template as text: rendering, and what can be learned of it by probing.

Templates are untrusted programs; transformers renders them in Jinja's immutable sandbox. Markers typed inside a message stay
text: each occurrence is broken by a character that the renderer removes after it has split the text there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fettle.chat.tools import call_as_wire, tool_as_wire, tools_as_text
from fettle.errors import DataError, ModelError
from fettle.records import Message, Tool, ToolCall

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BREAK = "\ufdd0"
"""A Unicode noncharacter, never valid in interchanged text, put inside markers that a message contains."""
_PROBE = "fettleprobe"


class ChatTemplate:
    """Renders conversations with the template of one tokenizer.

    Raises:
        ModelError: The tokenizer has no chat template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template:
            raise ModelError(
                "the model has no chat template, so a conversation cannot be turned into tokens the way it was trained",
                where=str(tokenizer.name_or_path),
                remedy="use an instruction-tuned model, or add a chat_template.jinja to its folder",
            )
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.values()
        self._markers = tuple(sorted((str(token) for token in added), key=len, reverse=True))
        self._special_markers = tuple(str(token) for token in added if token.special)
        self.takes_system = self._probe_system()
        self.takes_tools = self._probe_tools()

    @property
    def sha256(self) -> str:
        """Hash of the template's text: equal in training and serving, or the answers are not comparable."""
        return hashlib.sha256(str(self._tokenizer.chat_template).encode()).hexdigest()

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], *, add_generation_prompt: bool) -> str:
        """The conversation as text, with `BREAK` inside every marker that a message contains.

        Raises:
            DataError: The template refuses the conversation (order of roles, an unknown role).
        """
        from jinja2 import TemplateError

        guarded = [self._guard(message) for message in messages]
        wire = [_as_wire(message) for message in guarded] if self.takes_tools else tools_as_text(guarded, tools)
        if not self.takes_system:
            wire = _system_into_user(wire)
        functions = [tool_as_wire(tool) for tool in tools] if tools and self.takes_tools else None
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    wire,
                    tools=functions,  # pyright: ignore[reportArgumentType] (its list type is invariant)
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                )
            )
        except TemplateError as error:
            roles = ", ".join(message.role for message in messages)
            raise DataError(
                f"the model's chat template refuses this conversation ({error}); its roles are: {roles}",
                remedy="merge or reorder the messages",
            ) from error

    def end_of_turn(self) -> str:
        """The special token that the template writes after an assistant turn.

        Raises:
            ModelError: It writes none, so that a model trained with it would never stop.
        """
        turns = (Message(role="user", content="a"), Message(role="assistant", content=_PROBE))
        rest = self.render(turns, (), add_generation_prompt=False).split(_PROBE)[-1]
        found = [marker for marker in self._special_markers if rest.startswith(marker)]
        if not found:
            raise ModelError(
                f"the chat template ends an assistant turn with {rest[:20]!r}, which is no special token; a model trained "
                "with it would not learn to stop",
                where=str(self._tokenizer.name_or_path),
                remedy="use a model whose template ends each turn with an end-of-turn token",
            )
        return max(found, key=len)

    def _guard(self, message: Message) -> Message:
        # In an assistant's own answer <think> and the like are the model's vocabulary; only control tokens are forged turns.
        markers = self._special_markers if message.role == "assistant" else self._markers

        def guard(text: str) -> str:
            text = text.replace(BREAK, "")
            for marker in markers:
                if marker in text:
                    text = text.replace(marker, marker[:1] + BREAK + marker[1:])
            return text

        calls = tuple(
            ToolCall(id=call.id, name=guard(call.name), arguments=guard(call.arguments)) for call in message.tool_calls
        )
        return Message(
            role="system" if message.role == "developer" else message.role,
            content=guard(message.content),
            tool_calls=calls,
            tool_call_id=message.tool_call_id,
            name=message.name,
            weight=message.weight,
        )

    def _probe_system(self) -> bool:
        from jinja2 import TemplateError

        messages = [{"role": "system", "content": _PROBE}, {"role": "user", "content": "a"}]
        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError:
            return False
        return _PROBE in str(text)

    def _probe_tools(self) -> bool:
        from jinja2 import TemplateError

        call = {"id": "callprobe", "type": "function", "function": {"name": _PROBE + "call", "arguments": {"a": "b"}}}
        messages = [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": _PROBE + "result", "tool_call_id": "callprobe", "name": _PROBE + "call"},
            {"role": "assistant", "content": "b"},
        ]
        tools: Any = [tool_as_wire(Tool(name=_PROBE + "tool"))]
        try:
            text = str(self._tokenizer.apply_chat_template(messages, tools=tools, tokenize=False))
        except (TemplateError, TypeError):
            return False
        return all(_PROBE + part in text for part in ("call", "result", "tool"))


def _as_wire(message: Message) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        wire["tool_calls"] = [call_as_wire(call) for call in message.tool_calls]
    if message.role == "tool":
        wire["tool_call_id"] = message.tool_call_id or ""
        wire["name"] = message.name or ""
    return wire


def _system_into_user(wire: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Templates without a system role (Gemma 2) get it in front of the first user turn, as their authors advise."""
    system = "\n\n".join(message["content"] for message in wire if message["role"] == "system")
    others = [dict(message) for message in wire if message["role"] != "system"]
    if system and others:
        others[0]["content"] = f"{system}\n\n{others[0]['content']}"
    return others

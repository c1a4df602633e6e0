"""A model's own chat template as text: rendering, and what can be learned of it by probing.

Templates are untrusted programs; transformers renders them in Jinja's immutable sandbox. Markers typed inside a message stay
text: each occurrence is broken by a character that the renderer removes after it has split the text there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fettle.chat.tools import call_as_wire, tool_as_wire, tools_as_text
from fettle.errors import DataError, ModelError
from fettle.records import Message, Tool, ToolCall

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BREAK = "\ufdd0"
"""A Unicode noncharacter, never valid in interchanged text, put inside markers that a message contains."""
_PROBE = "fettleprobe"
_SHORT_ID, _LONG_ID = "callprobe", "call_of-a-probe"


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
        self.takes_system = self._takes("system", "user")
        self._takes_late_system = self.takes_system and self._takes("user", "assistant", "system", "user")
        self._alternates = not self._takes("user", "user")
        self.takes_tools = self._probe_tools(call_id=_SHORT_ID)
        self._wants_short_ids = self.takes_tools and not self._probe_tools(call_id=_LONG_ID)

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

        if not messages:
            raise DataError("there is no message to answer", remedy="put a user message before the answer")
        guarded = [self._guard(message) for message in messages]
        tools = [self._guard_tool(tool) for tool in tools]
        wire = [_as_wire(message) for message in guarded] if self.takes_tools else tools_as_text(guarded, tools)
        wire = self._as_taken(wire)
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
                f"template without the stop token: it ends an assistant turn with {rest[:20]!r}, which is no special token; a "
                "model trained with it would not learn to stop",
                where=str(self._tokenizer.name_or_path),
                remedy="use a model whose template ends each turn with an end-of-turn token",
            )
        return max(found, key=len)

    def answer_opening(self) -> str:
        """What the template itself writes between the generation prompt and every answer; "" where that is at most a space.

        Qwen 3 writes an empty thought there. It belongs to what a model is prompted with, in training and in answering: it is the
        template's, not the model's.
        """
        asked = Message(role="user", content="a")
        before = self.render([asked], (), add_generation_prompt=True)
        after = self.render([asked, Message(role="assistant", content=_PROBE)], (), add_generation_prompt=False)
        if not after.startswith(before):
            return ""
        opening = after[len(before) :].split(_PROBE)[0]
        return opening if opening.strip() else ""

    def joined(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The messages with one answer for several in a row, where the template lets the roles alternate.

        Raises:
            DataError: Some of these answers are to be learned and some are not, which one answer cannot say.
        """
        joined: list[Message] = []
        for number, message in enumerate(messages, start=1):
            last = joined[-1] if joined else None
            if not self._alternates or last is None or not last.role == message.role == "assistant":
                joined.append(message)
                continue
            if (last.weight == 0) != (message.weight == 0):
                raise DataError(
                    f"messages {number - 1} and {number} are both from the assistant, one of them with weight 0; this model's chat "
                    "template takes them for one answer",
                    remedy="give both the same weight, or put a user message between them",
                )
            joined[-1] = replace(
                last,
                content=_paragraphs([last.content, message.content]),
                tool_calls=(*last.tool_calls, *message.tool_calls),
            )
        return tuple(joined)

    def greeting_opening(self, tools: Sequence[Tool]) -> str:
        """What a model is prompted with where nothing comes before its answer, as text.

        Raises:
            DataError: The template refuses such a conversation, or leaves the answer out.
        """
        greeting = self.render([Message(role="assistant", content=_PROBE)], tools, add_generation_prompt=False)
        opening, found, _ = greeting.partition(_PROBE)
        if not found:
            raise DataError(
                "the model's chat template does not write an answer that nothing comes before",
                remedy="put a user message before it",
            )
        return opening

    def _as_taken(self, wire: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Messages as the template takes them: a system text is the user's where there is no such role (Gemma 2), or none so late
        (Mistral), as the authors advise; it stays in its place, so that no later message changes what was written before.
        """
        taken = [
            {**message, "role": "user"} if message["role"] == "system" and not self._takes_system_at(place) else message
            for place, message in enumerate(wire)
        ]
        return _in_turn(taken) if self._alternates else taken

    def _takes_system_at(self, place: int) -> bool:
        return self.takes_system if place == 0 else self._takes_late_system

    def _guard(self, message: Message) -> Message:
        # In an assistant's own words <think> and the like are the model's vocabulary; only control tokens are forged turns.
        markers = self._special_markers if message.role == "assistant" else self._markers
        calls = tuple(
            ToolCall(
                id=self._call_id(call.id),
                name=_broken(call.name, self._markers),
                arguments=_broken_json(call.arguments, self._markers),
            )
            for call in message.tool_calls
        )
        return Message(
            role="system" if message.role == "developer" else message.role,
            content=_broken(message.content, markers),
            tool_calls=calls,
            tool_call_id=None if message.tool_call_id is None else self._call_id(message.tool_call_id),
            name=None if message.name is None else _broken(message.name, markers),
            weight=message.weight,
        )

    def _call_id(self, call_id: str) -> str:
        """An id of a call as the template takes it: Mistral's refuses all but nine letters and digits."""
        if not self._wants_short_ids or (len(call_id) == len(_SHORT_ID) and call_id.isalnum()):
            return _broken(call_id, self._markers)
        return hashlib.sha256(call_id.encode()).hexdigest()[: len(_SHORT_ID)]

    def _guard_tool(self, tool: Tool) -> Tool:
        return Tool(
            name=_broken(tool.name, self._markers),
            description=_broken(tool.description, self._markers),
            parameters=_broken_json(tool.parameters, self._markers),
        )

    def _takes(self, *roles: str) -> bool:
        """Whether the template writes turns of these roles, in this order; some refuse them, and some leave them out unsaid."""
        from jinja2 import TemplateError

        contents = [f"{_PROBE}{place}" for place in range(len(roles))]
        messages = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=True)]
        try:
            text = str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except TemplateError:
            return False
        return all(content in text for content in contents)

    def _probe_tools(self, *, call_id: str) -> bool:
        from jinja2 import TemplateError

        call = {"id": call_id, "type": "function", "function": {"name": _PROBE + "call", "arguments": {"a": "b"}}}
        messages = [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": _PROBE + "result", "tool_call_id": call_id, "name": _PROBE + "call"},
            {"role": "assistant", "content": "b"},
        ]
        tools: Any = [tool_as_wire(Tool(name=_PROBE + "tool"))]
        try:
            text = str(self._tokenizer.apply_chat_template(messages, tools=tools, tokenize=False))
        except (TemplateError, TypeError):
            return False
        return all(_PROBE + part in text for part in ("call", "result", "tool"))


def _broken(text: str, markers: Sequence[str]) -> str:
    """The text with `BREAK` inside every marker."""
    text = text.replace(BREAK, "")
    for marker in markers:
        # Not once: in "|x|x|" the marker "|x|" is still there after the first round. One character cannot be broken.
        while len(marker) > 1 and marker in text:
            text = text.replace(marker, marker[:1] + BREAK + marker[1:])
    return text


def _broken_json(text: str, markers: Sequence[str]) -> str:
    """A JSON text with `BREAK` inside the markers of its strings and keys, escaped ones too: a template writes them unescaped."""

    def broken(value: Any) -> Any:
        match value:
            case str():
                return _broken(value, markers)
            case list():
                return [broken(item) for item in value]
            case dict():
                return {_broken(key, markers): broken(item) for key, item in value.items()}
            case _:
                return value

    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return _broken(text, markers)
    return json.dumps(broken(value), ensure_ascii=False)


def _as_wire(message: Message) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        wire["tool_calls"] = [call_as_wire(call) for call in message.tool_calls]
    if message.role == "tool":
        wire["tool_call_id"] = message.tool_call_id or ""
        wire["name"] = message.name or ""
    return wire


def _in_turn(wire: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same in turns that alternate: neighbours of one role are one turn, and an answer to nothing gets an empty user's turn."""
    joined: list[dict[str, Any]] = []
    for message in wire:
        last = joined[-1] if joined else None
        if message["role"] == "assistant" and (last is None or last["role"] == "system"):
            joined.append({"role": "user", "content": ""})
        if last is not None and last["role"] == message["role"] != "tool":
            last["content"] = _paragraphs([last["content"], message["content"]])
            if calls := [*last.get("tool_calls", ()), *message.get("tool_calls", ())]:
                last["tool_calls"] = calls
        else:
            joined.append(dict(message))
    return joined


def _paragraphs(texts: Sequence[str]) -> str:
    return "\n\n".join(text for text in texts if text)

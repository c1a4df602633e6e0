"""Grammars that keep a model's function calls in its own form, and their arguments in the functions' schemas.

Source of the syntax: llguidance, `docs/syntax.md` (Lark with `%json`, `<[token]>` and `lazy`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import regex

from fettle.answering.engine import Grammar, JsonForm
from fettle.chat.call_format import CALL_ID, CallFormat
from fettle.errors import ConfigError
from fettle.records import Tool

COMPACT_ITEM_SEPARATOR, COMPACT_KEY_SEPARATOR = ",[ ]?", ":[ ]?"
"""Between members, and between a key and its value: a space at most, so that no model writes spaces for ever."""
_SPACING = {
    "item_separator": COMPACT_ITEM_SEPARATOR,
    "key_separator": COMPACT_KEY_SEPARATOR,
    "whitespace_flexible": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRules:
    """What a model may write where functions are offered."""

    tools: tuple[Tool, ...]
    """Those that may be called."""
    strict_names: frozenset[str]
    """Functions whose arguments are kept in their schemas; others' are any JSON object."""
    must_call: bool = False
    """It may not answer with text."""
    at_most_one: bool = False
    """It may not call two functions at once."""
    text_form: JsonForm | None = None
    """The form of an answer that is no call; None: any text."""


def call_grammar(form: CallFormat, rules: CallRules, token_ids: Mapping[str, int]) -> Grammar:
    """The grammar of answers that keep some rules.

    Args:
        form: How the model writes calls.
        rules: What it may write.
        token_ids: The tokenizer's added tokens by their text: a grammar names them by number.

    Raises:
        ConfigError: A function's parameters are no schema of an object.
    """
    writer = _LarkWriter(token_ids)
    calls = _calls(form, writer, at_most_one=rules.at_most_one)
    lines = [f"call: {' | '.join(f'call_{place}' for place in range(len(rules.tools)))}"]
    for place, tool in enumerate(rules.tools):
        schema = _arguments_schema(tool, is_strict=tool.name in rules.strict_names)
        lines.append(f"call_{place}: {writer.literal(tool.name + form.middle)} %json {json.dumps(schema)}")
    if rules.must_call:
        lines.append(f"start: {writer.literal(form.head)} {calls}")
    elif rules.text_form is not None:
        # A bare call begins like the text's own JSON, which a parser that looks no token ahead cannot tell apart: the text wins.
        or_calls = f" | {writer.literal(form.head)} {calls}" if form.marker else ""
        schema = _spaced(json.loads(rules.text_form.schema))
        lines += [f"start: text{or_calls}", f"text: %json {json.dumps(schema)}"]
    else:
        lines += _text_or(form, writer, calls)
    return Grammar(lark="\n".join(["%llguidance {}", *lines, "CALL_ID: /[a-zA-Z0-9]{9}/", ""]))


def _calls(form: CallFormat, writer: _LarkWriter, *, at_most_one: bool) -> str:
    """What follows the head."""
    more = "" if at_most_one or form.between is None else f" ({writer.literal(form.between)} call)*"
    return f"call{more} {writer.literal(form.tail)}"


def _text_or(form: CallFormat, writer: _LarkWriter, calls: str) -> list[str]:
    """Rules for any text, which a call may follow. Once a call has begun there is no way back to text."""
    if not form.marker:
        return [f"start: TEXT? | {writer.literal(form.head)} {calls}", r"TEXT: /[^{](.|\n)*/"]
    text, rest = r"TEXT: /(.|\n)*/", writer.literal(form.head[len(form.marker) :])
    if form.marker in writer.token_ids:
        return [f"start: TEXT ({writer.literal(form.marker)} {rest} {calls})?", text]
    up_to_marker = f"up_to_call[lazy]: TEXT {writer.literal(form.marker)}"
    return [f"start: TEXT | up_to_call {rest} {calls}", up_to_marker, text]


class _LarkWriter:
    """Writes texts into a grammar: added tokens by their number, all else in quotation marks."""

    def __init__(self, token_ids: Mapping[str, int]) -> None:
        self.token_ids = token_ids

    def literal(self, text: str) -> str:
        """One text as the grammar writes it; "" for none."""
        return " ".join(self._parts(text))

    def _parts(self, text: str) -> Iterator[str]:
        markers = sorted([*self.token_ids, CALL_ID], key=len, reverse=True)
        for part in regex.split(f"({'|'.join(map(regex.escape, markers))})", text):
            if part == CALL_ID:
                yield "CALL_ID"
            elif part in self.token_ids:
                yield f"<[{self.token_ids[part]}]>"
            elif part:
                yield json.dumps(part, ensure_ascii=False)


def _arguments_schema(tool: Tool, *, is_strict: bool) -> dict[str, Any]:
    """The schema that a function's arguments are kept in: always of an object. A function without parameters takes none."""
    given = json.loads(tool.parameters)
    if not isinstance(given, Mapping) or given.get("type", "object") != "object":
        raise ConfigError(
            f"the parameters of the function {tool.name!r} are not the schema of an object",
            where="tools",
            remedy='give a JSON schema with "type": "object"',
        )
    if not given:
        return _spaced({"type": "object", "properties": {}, "additionalProperties": False})
    return _spaced({**given, "type": "object"} if is_strict else {"type": "object"})


def _spaced(schema: Any) -> dict[str, Any]:
    return (
        {**schema, "x-guidance": _SPACING}
        if isinstance(schema, Mapping)
        else {"allOf": [schema], "x-guidance": _SPACING}
    )


def added_token_ids(tokens: Mapping[int, object]) -> dict[str, int]:
    """A tokenizer's added tokens by their text."""
    return {str(text): token for token, text in tokens.items()}

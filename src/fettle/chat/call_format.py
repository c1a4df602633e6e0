"""How a model writes function calls, read off its own chat template.

A conversation with two calls is rendered, and what stands around names and arguments is taken from it. So every template whose
calls hold a name and then JSON arguments is understood: Hermes (`<tool_call>{"name": ..., "arguments": ...}</tool_call>`), Llama 3
(`{"name": ..., "parameters": ...}`), Mistral (`[TOOL_CALLS] [...]`), and those that come next. Not understood are calls
whose arguments are no JSON (Python, XML).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import regex

from fettle.errors import DataError
from fettle.records import Message, Tool, ToolCall

if TYPE_CHECKING:
    from fettle.chat.renderer import ChatRenderer

CALL_ID = "\ufdd1"
"""Stands in a form's texts for an id of nine letters and digits, which some templates write with each call."""
NAME = r"[a-zA-Z0-9_-]{1,64}"
"""Names of functions, as a regular expression."""

_NAMES, _IDS = ("fettleprobe_one", "fettleprobe_two"), ("probeid01", "probeid02")
_ARGUMENTS = r'\{\s*"probekey"\s*:\s*"probevalue"\s*\}'


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFormat:
    """The texts around names and arguments: `head NAME middle ARGUMENTS between NAME middle ARGUMENTS tail`."""

    head: str
    """Before the first name; space in front of it does not count."""
    middle: str
    """Between a name and its arguments."""
    between: str | None
    """Between arguments and the next name; None: the model makes one call at a time."""
    tail: str
    """After the last arguments."""

    @property
    def marker(self) -> str:
        """What no other text holds and every first call begins with; "": a call begins like any JSON object."""
        return regex.split(r'[\s\[{"]*\{', self.head)[0].strip() if "{" in self.head else self.head.strip()


def call_format(renderer: ChatRenderer) -> CallFormat | None:
    """How the model of a renderer writes calls; None: its template does not say, or not in a form that is understood."""
    one, two = _rendered(renderer, 1), _rendered(renderer, 2)
    if one is None:
        return None
    single = _parts(one, 1)
    if single is None:
        return None
    double = _parts(two, 2) if two is not None else None
    goes_on = double is not None and all(double[part] == single[part] for part in ("head", "middle", "tail"))
    return CallFormat(
        head=single["head"].lstrip(),
        middle=single["middle"],
        between=double["between"] if double and goes_on else None,
        tail=single["tail"].rstrip(),
    )


def shown_token_ids(renderer: ChatRenderer, form: CallFormat) -> frozenset[int]:
    """Special tokens that a form is written with: decoding has to keep them for the form to be seen."""
    texts = (form.head, form.middle, form.between or "", form.tail)
    special = {
        token: str(marker) for token, marker in renderer.tokenizer.added_tokens_decoder.items() if marker.special
    }
    return frozenset(token for token, marker in special.items() if any(marker in text for text in texts))


def _rendered(renderer: ChatRenderer, num_calls: int) -> str | None:
    """What the model writes to make some calls, the end of its turn left out."""
    arguments = json.dumps({"probekey": "probevalue"})
    calls = tuple(
        ToolCall(id=number, name=name, arguments=arguments)
        for name, number in zip(_NAMES[:num_calls], _IDS[:num_calls], strict=True)
    )
    tools = [Tool(name=name, description="probe", parameters='{"type": "object", "properties": {}}') for name in _NAMES]
    asked = Message(role="user", content="a")
    try:
        return renderer.answer_text([asked, Message(role="assistant", content="", tool_calls=calls)], tools)
    except (DataError, TypeError):  # the template takes no such conversation
        return None


def _parts(written: str, num_calls: int) -> dict[str, str] | None:
    """The texts around some probing calls, by their names; None: they do not stand there as expected."""
    pattern = rf"(?P<head>.*?){_NAMES[0]}(?P<middle>.*?){_ARGUMENTS}"
    if num_calls == 2:
        pattern += rf"(?P<between>.*?){_NAMES[1]}(?P=middle){_ARGUMENTS}"
    found = regex.fullmatch(pattern + "(?P<tail>.*)", written, regex.DOTALL)
    return found and {name: regex.sub("|".join(_IDS), CALL_ID, text) for name, text in found.groupdict().items()}


def pattern_of(text: str) -> str:
    """A regular expression of a form's text that takes any space where the text has some, and around JSON's punctuation.

    >>> bool(regex.fullmatch(pattern_of('<t>\\n{"name": "'), '<t>{ "name":"'))
    True
    """
    parts: Sequence[str] = regex.findall(rf'\s+|{CALL_ID}|[\[\]{{}}:,]|"|[^\s\[\]{{}}:,"{CALL_ID}]+', text)
    written = ""
    for part in parts:
        if part.isspace():
            written += r"\s*"
        elif part == CALL_ID:
            written += "[a-zA-Z0-9]{9}"
        elif part in "[]{}:,":
            written += rf"\s*{regex.escape(part)}\s*"
        else:
            written += regex.escape(part)
    return regex.sub(r"(\\s\*)+", r"\\s*", written)

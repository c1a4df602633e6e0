"""Function calls in what a model writes, while it writes: text and calls are told apart as early as can be.

Text that may yet turn out to be a call is held back; a name that was not offered is no call and stays text. The arguments are
passed on as the model writes them, and are one JSON object unless the answer is cut.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

import regex

from fettle.chat.call_format import CallFormat, pattern_of

_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Some of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegin:
    """A call, whose arguments follow."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsPiece:
    """Some of a call's arguments, JSON text."""

    index: int
    text: str


CallEvent = TextPiece | CallBegin | ArgumentsPiece


class _State(Enum):
    TEXT = auto()
    ARGUMENTS = auto()
    AFTER_CALL = auto()


def new_call_id() -> str:
    """An id that nobody guesses."""
    return "call_" + "".join(secrets.choice(_ALPHABET) for _ in range(24))


class CallReader:
    """Turns an answer's text into text and calls, piece by piece.

    Args:
        form: How the model writes calls.
        names: Functions that may be called.
        at_most_one: Nothing is read after the first call.
        must_call: What may be the beginning of a call is one.
    """

    def __init__(
        self, form: CallFormat, names: Collection[str], *, at_most_one: bool = False, must_call: bool = False
    ) -> None:
        self._marker, self._names, self._at_most_one = form.marker, frozenset(names), at_most_one
        self._must_call = must_call
        call = f"(?P<name>{'|'.join(map(regex.escape, sorted(names, reverse=True)))}){pattern_of(form.middle)}(?={{)"
        self._head = regex.compile(pattern_of(form.head) + call)
        self._between = None if form.between is None else regex.compile(pattern_of(form.between) + call)
        self._tail = regex.compile(pattern_of(form.tail))
        self._bare_object = regex.compile(regex.escape(self._marker) + r"\s*\[?\s*(?={)")
        self._state, self._buffer = _State.TEXT, ""
        self._has_text = False
        self._value = _JsonValue()
        self.num_calls = 0
        """Calls so far."""
        self.is_cut_in_call = False
        """The limit of tokens has cut a call before its name was whole."""

    @property
    def is_done(self) -> bool:
        """No more is read: the one call that may be made is whole."""
        return self._at_most_one and self._state is _State.AFTER_CALL

    def push(self, text: str, *, is_last: bool = False) -> list[CallEvent]:
        """Take the next piece of the answer, and give what is certain by now; with the last one, all that is left."""
        self._buffer += text
        events: list[CallEvent] = []
        goes_on = True
        while goes_on and not self.is_done:
            match self._state:
                case _State.TEXT:
                    goes_on = self._read_text(events, is_last=is_last)
                case _State.ARGUMENTS:
                    goes_on = self._read_arguments(events)
                case _State.AFTER_CALL:
                    goes_on = self._read_after_call(events, is_last=is_last)
        return events

    def cut(self, text: str) -> list[CallEvent]:
        """Take the last piece of an answer that its limit cuts: a call without a whole name is no text, and left out."""
        events = self.push(text)
        if self._is_in_call():
            self._buffer, self.is_cut_in_call = "", True
        return [*events, *self.push("", is_last=True)]

    def _is_in_call(self) -> bool:
        """Whether what is held back is part of a call; before the first one that need not be made, its marker tells."""
        if self._must_call and not self.num_calls:
            return True
        held = self._buffer.lstrip()
        return bool(held) and (self.num_calls > 0 or held.startswith(self._marker))

    def _read_text(self, events: list[CallEvent], *, is_last: bool) -> bool:
        """Text up to the next call; whether there is more to read than text."""
        if self.num_calls:
            self._buffer = self._buffer.lstrip()
        for start in self._possible_starts():
            found = self._head.match(self._buffer, start, partial=not is_last)
            if found and not found.partial:
                self._give_text(events, self._buffer[:start])
                self._begin(events, found)
                return True
            if found:
                self._hold_from(events, start)
                return False
            whole = self._whole_call(start, is_last=is_last) if self._marker else None
            if whole is None:
                continue
            if whole.is_complete:
                self._give_text(events, self._buffer[:start])
                self._give_whole(events, whole)
                return True
            self._hold_from(events, start)
            return False
        self._give_text(events, self._buffer if is_last else self._buffer.rstrip())
        self._buffer = "" if is_last else self._buffer[len(self._buffer.rstrip()) :]
        return False

    def _possible_starts(self) -> list[int]:
        """Where a call may begin: at the marker's first character, or, where there is none, at the beginning of the answer."""
        if self._marker:
            return [place for place, character in enumerate(self._buffer) if character == self._marker[0]]
        is_first = not (self._has_text or self.num_calls)
        return [0] if is_first and self._buffer.strip() else []

    def _begin(self, events: list[CallEvent], found: regex.Match[str]) -> None:
        events.append(CallBegin(self.num_calls, new_call_id(), found["name"]))
        self.num_calls += 1
        self._buffer = self._buffer[found.end() :]
        self._state, self._value = _State.ARGUMENTS, _JsonValue()

    def _read_arguments(self, events: list[CallEvent]) -> bool:
        length = self._value.take(self._buffer)
        if length:
            events.append(ArgumentsPiece(self.num_calls - 1, self._buffer[:length]))
        self._buffer = self._buffer[length:]
        if self._value.is_whole:
            self._state = _State.AFTER_CALL
        return self._value.is_whole

    def _read_after_call(self, events: list[CallEvent], *, is_last: bool) -> bool:
        """What closes a call, or leads to the next one."""
        another = self._between.match(self._buffer, partial=not is_last) if self._between else None
        if another and not another.partial:
            self._begin(events, another)
            return True
        if another:
            return False
        tail = self._tail.match(self._buffer, partial=not is_last)
        if tail and tail.partial:
            return False
        self._buffer = self._buffer[tail.end() :] if tail else "" if is_last else self._buffer
        self._state = _State.TEXT
        return True

    def _whole_call(self, start: int, *, is_last: bool) -> _WholeCall | None:
        """A call whose parts come in another order, or whose arguments are a text: read once it is whole. None: it is no call."""
        found = self._bare_object.match(self._buffer, start, partial=not is_last)
        if found is None:
            return None
        value = _JsonValue()
        length = 0 if found.partial else value.take(self._buffer[found.end() :])
        if not value.is_whole:
            return None if is_last else _WholeCall()
        end = found.end() + length
        return _whole_call(self._buffer[found.end() : end], end=end, names=self._names)

    def _give_whole(self, events: list[CallEvent], call: _WholeCall) -> None:
        events += [CallBegin(self.num_calls, new_call_id(), call.name), ArgumentsPiece(self.num_calls, call.arguments)]
        self.num_calls += 1
        # The object's own closing brace is part of what stands after arguments.
        self._buffer = self._buffer[call.end - 1 :]
        self._state = _State.AFTER_CALL

    def _hold_from(self, events: list[CallEvent], start: int) -> None:
        certain = self._buffer[:start].rstrip()
        self._give_text(events, certain)
        self._buffer = self._buffer[len(certain) :]

    def _give_text(self, events: list[CallEvent], text: str) -> None:
        """Text in front of a call ends with its last character that is no space."""
        begins_call = text is not self._buffer and len(text) < len(self._buffer)
        text = text.rstrip() if begins_call else text
        if text:
            self._has_text = True
            events.append(TextPiece(text))


@dataclass(frozen=True, slots=True)
class _WholeCall:
    name: str = ""
    arguments: str = ""
    end: int = 0
    """Where it ends in the text; 0: it has not ended yet."""

    @property
    def is_complete(self) -> bool:
        return self.end > 0


def _whole_call(text: str, *, end: int, names: frozenset[str]) -> _WholeCall | None:
    try:
        call = json.loads(text)
        arguments = call.get("arguments", call.get("parameters"))
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
    except ValueError:
        return None
    if call.get("name") not in names or not isinstance(arguments, dict):
        return None
    return _WholeCall(call["name"], json.dumps(arguments, ensure_ascii=False), end)


class _JsonValue:
    """Finds the end of a JSON object in pieces of text."""

    def __init__(self) -> None:
        self._depth, self._is_in_text, self._is_escaped = 0, False, False
        self.is_whole = False

    def take(self, text: str) -> int:
        """How many characters belong to the object."""
        for place, character in enumerate(text):
            if self._is_escaped:
                self._is_escaped = False
            elif self._is_in_text:
                self._is_escaped, self._is_in_text = character == "\\", character != '"'
            elif character == '"':
                self._is_in_text = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.is_whole = True
                    return place + 1
        return len(text)

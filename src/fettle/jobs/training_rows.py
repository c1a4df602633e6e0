"""Training files of the API: JSON Lines of chat rows, read strictly, because nothing of them may be left out without a word.

The rules and their codes are those of OpenAI's API. A study reads more formats and repairs more (`fettle.examples.read`); here a
file either is what the API takes, or the job fails before it is trained.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

from fettle.errors import DataError
from fettle.examples.notes import UnusableRowError
from fettle.examples.row_formats.chat import parsed_tools, parsed_turns
from fettle.records import Example, Location, Message

LEAST_TRAINING_ROWS = 10
"""Of a new job's training file."""
_MOST_LINE_BYTES = 64 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PREFERENCE_KEYS = frozenset(
    {"input", "preferred_output", "non_preferred_output", "preferred_completion", "non_preferred_completion"}
)
_REFUSED_REPAIRS = {
    "tool-arguments-object": "tool call arguments are an object, and must be a JSON string",
}


class FileRole(StrEnum):
    """What a file is for; the words are the names of the job's fields."""

    TRAINING = "training_file"
    VALIDATION = "validation_file"

    @property
    def code(self) -> str:
        """The code of an error about its content."""
        return f"invalid_{self.value}"


class BadTrainingFileError(DataError):
    """A file that no job can be trained with.

    Args:
        problem: What is wrong.
        code: As OpenAI's API calls it.
        role: The field of the job that names the file.
    """

    def __init__(self, problem: str, *, code: str, role: FileRole) -> None:
        self.code, self.role = code, role
        super().__init__(problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRows:
    """The rows of a file."""

    examples: tuple[Example, ...]
    warnings: tuple[str, ...]
    """What should be said of them, such as keys that are not used."""


def read_training_rows(file: Path, role: FileRole, *, name: str, least: int = 1) -> TrainingRows:
    """The rows of a supervised training or validation file.

    Args:
        file: Where it lies.
        role: What it is for.
        name: What it is called in messages: its id.
        least: How many rows there must be.

    Raises:
        BadTrainingFileError: It breaks a rule; the message names the line.
    """
    examples: list[Example] = []
    noticed: Counter[str] = Counter()
    first_line: dict[str, int] = {}
    for line, values, repeated in _objects(file, role):
        try:
            example, notes = _example(values, Location(file=name, line=line))
        except UnusableRowError as error:
            refuse_line(role, line, error.note.message, error.note.remedy)
        for note in (*repeated, *notes):
            noticed[note] += 1
            first_line.setdefault(note, line)
        examples.append(example)
    _require_enough(examples, role, least)
    warnings = tuple(
        f"{note} (line {first_line[note]}" + (f" and {count - 1} more)" if count > 1 else ")")
        for note, count in noticed.items()
    )
    return TrainingRows(examples=tuple(examples), warnings=warnings)


def _objects(file: Path, role: FileRole) -> Iterator[tuple[int, Mapping[str, Any], Sequence[str]]]:
    """The JSON objects of a file, each after its line, counted from 1, and before what is odd about its text. Lines end at a line
    feed alone.
    """
    blank: int | None = None
    with file.open("rb") as content:
        lines = iter(lambda: content.readline(_MOST_LINE_BYTES + 1), b"")
        for number, raw in enumerate(lines, start=1):
            line = raw.removeprefix(_BYTE_ORDER_MARK) if number == 1 else raw
            if len(line) > _MOST_LINE_BYTES:
                _refuse(role, f"line {number} has more than the {_MOST_LINE_BYTES:,} bytes that are taken")
            if not line.strip(b" \t\r\n"):
                blank = blank or number
                continue
            if blank is not None:
                _refuse(role, f"line {blank} is blank, and only the end of a file may be")
            yield number, *_object(line, number, role)


def _object(line: bytes, number: int, role: FileRole) -> tuple[Mapping[str, Any], Sequence[str]]:
    repeated: dict[str, None] = {}
    try:
        value = json.loads(line.decode(), parse_constant=_no_json, object_pairs_hook=_noting(repeated))
    except UnicodeDecodeError as error:
        _refuse(role, f"line {number} is not UTF-8 (byte {error.start + 1})")
    except RecursionError:
        _refuse(role, f"line {number} is nested too deeply")
    except ValueError as error:
        _refuse(role, f"line {number} is not a JSON object ({_short(error)})")
    if not isinstance(value, dict):
        kind = {list: "an array", str: "a text"}.get(type(value), "no object")
        _refuse(role, f"line {number} is {kind}; every line must be a JSON object")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        _refuse(role, f"line {number} holds half a surrogate pair, which is no text")
    return value, [
        f"the key {key[:40]!r} is given more than once in an object, and only the last one is used" for key in repeated
    ]


def _noting(repeated: dict[str, None]) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """Makes objects for `json.loads` out of their pairs, and puts the keys that an object has more than once into `repeated`."""

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            repeated.update(dict.fromkeys(key for key, count in counts.items() if count > 1))
        return values

    return object_of


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _example(values: Mapping[str, Any], place: Location) -> tuple[Example, list[str]]:
    if "messages" not in values:
        _refuse_other_format(values)
    raw = values["messages"]
    if not isinstance(raw, list) or not raw:
        raise UnusableRowError(
            "bad-messages", "`messages` must be a list with at least one message", "add the messages"
        )
    _check_strictly(raw)
    messages, notes = parsed_turns(raw)
    for note in notes:
        if note.code in _REFUSED_REPAIRS:
            raise UnusableRowError(note.code, _REFUSED_REPAIRS[note.code], note.remedy)
    _check_order(messages)
    unused = sorted(values.keys() - {"messages", "tools", "functions", "parallel_tool_calls", "metadata"})
    said = [f"unknown key {key!r} of a row is not used" for key in unused]
    said += [note.message.split(": ", 1)[-1] for note in notes]
    said += dict.fromkeys(
        oddity for message in messages for call in message.tool_calls for oddity in _odd_arguments(call.arguments)
    )
    if not isinstance(values.get("parallel_tool_calls"), bool | None):
        said.append("`parallel_tool_calls` is neither true nor false, and is not used")
    tools = parsed_tools(values)
    return Example(id=str(place), messages=messages, source=place, tools=tools), said


def _odd_arguments(arguments: str) -> list[str]:
    """What a model should not learn to write as arguments, although Python reads it."""
    repeated: dict[str, None] = {}
    try:
        json.loads(arguments, parse_constant=_no_json, object_pairs_hook=_noting(repeated))
    except ValueError as error:
        return [f"the arguments of a tool call are no strict JSON ({_short(error)}), and are learned as they are"]
    return [
        f"the key {key[:40]!r} is given more than once in the arguments of a tool call, which are learned as they are"
        for key in repeated
    ]


def _check_strictly(raw: list[Any]) -> None:
    """What a study would read as it is meant: a weight that is no integer, a call without arguments.

    Raises:
        UnusableRowError: There is one.
    """
    for number, message in enumerate(raw, start=1):
        if not isinstance(message, dict):
            continue
        if isinstance(message.get("weight"), float):
            raise UnusableRowError("bad-weight", f"message {number}: weight must be the integer 0 or 1", "use 0 or 1")
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and "arguments" not in function:
                problem = f"message {number}: a tool call needs function.arguments, a JSON string"
                raise UnusableRowError("bad-tool-call", problem, 'add it; "{}" where there are none')


def _refuse_other_format(values: Mapping[str, Any]) -> NoReturn:
    if not _PREFERENCE_KEYS.isdisjoint(values):
        problem = "a preference row (of the method 'dpo'), and the method 'supervised' needs chat rows with `messages`"
        raise UnusableRowError("preference-row", problem, "use the method 'dpo', or write `messages`")
    if {"prompt", "completion"} <= values.keys():
        problem = "a row with prompt and completion, and the base models here are trained with chat rows"
        raise UnusableRowError("prompt-completion", problem, "write `messages` with a user's and an assistant's turn")
    raise UnusableRowError("no-messages", "`messages` is missing", "write `messages`, a list of chat messages")


def _check_order(messages: tuple[Message, ...]) -> None:
    """The turns make a conversation that ends with an answer to be learned.

    Raises:
        UnusableRowError: They do not.
    """
    if not any(message.role == "assistant" for message in messages):
        raise UnusableRowError("no-assistant", "no message is from the assistant", "add the answer to be learned")
    last = messages[-1]
    if last.role != "assistant":
        problem = f"the last message is from the {last.role}, and must be from the assistant"
        raise UnusableRowError("no-answer-at-end", problem, "end with the answer to be learned")
    called: set[str] = set()
    for number, message in enumerate(messages, start=1):
        if message.role == "tool" and message.tool_call_id not in called:
            problem = f"message {number}: a tool message must carry the tool_call_id of a call made before it"
            raise UnusableRowError("tool-result-without-call", problem, "correct the id")
        called.update(call.id for call in message.tool_calls)


def _require_enough(examples: list[Example], role: FileRole, least: int) -> None:
    if not examples:
        _refuse(role, "the file holds no example")
    if len(examples) < least:
        raise BadTrainingFileError(
            f"Training file has {len(examples)} example(s), but must have at least {least} examples",
            code="invalid_n_examples",
            role=role,
        )
    answers = (message for example in examples for message in example.messages if message.role == "assistant")
    if all(message.weight == 0 for message in answers):
        _refuse(role, "every assistant message has weight 0, so there is nothing to learn")


def refuse_line(role: FileRole, line: int, problem: str, remedy: str | None) -> NoReturn:
    """Say which line of a file keeps a job from being trained with it.

    Raises:
        BadTrainingFileError: Always.
    """
    _refuse(role, f"line {line}: {problem}." + (f" {_sentence(remedy)}" if remedy else ""))


def _refuse(role: FileRole, problem: str) -> NoReturn:
    raise BadTrainingFileError(f"Invalid {role.value.replace('_', ' ')}: {problem}", code=role.code, role=role)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _short(error: ValueError) -> str:
    return str(error).split(": line")[0].splitlines()[0][:100]

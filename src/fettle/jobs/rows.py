"""A job's file to tokens: chat rows, cut at what the model takes. The file was checked when it came in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fettle.chat.renderer import ChatRenderer
from fettle.errors import DataError
from fettle.examples.notes import UnusableRowError
from fettle.examples.row_formats.chat import ChatFormat
from fettle.jobs.job_folder import RowCounts
from fettle.records import Example, Location, Message, Prompt, TokenisedExample

NUM_CHECK_PROMPTS = 4
_ROOM_FOR_AN_ANSWER = 32
_NOTHING_TRAINED = "nothing-trained"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRows:
    """A file's rows as they are trained or evaluated on."""

    rows: tuple[TokenisedExample, ...]
    counts: RowCounts
    check_prompts: tuple[Prompt, ...]
    """The first few that leave room for an answer; at least one."""


def read_job_rows(file: Path, renderer: ChatRenderer, *, max_tokens: int, name: str) -> JobRows:
    """The rows of a file of chat rows, JSON Lines.

    Args:
        file: The file.
        renderer: Of the base model.
        max_tokens: Longer rows are cut there; those of which nothing is trained then are skipped.
        name: What messages call the file.

    Raises:
        DataError: A line is no chat row that can be trained, or nothing is left of any.
    """
    rows: list[TokenisedExample] = []
    prompts: list[Prompt] = []
    num_truncated = num_skipped = 0
    for line, values in _objects(file, name):
        example = _example(values, Location(file=name, line=line))
        whole = None if example is None else renderer.example_tokens(example)
        cut = None if whole is None else _cut(whole, max_tokens)
        if example is None or whole is None or cut is None:
            num_skipped += 1
            continue
        num_truncated += len(cut.token_ids) < len(whole.token_ids)
        rows.append(cut)
        prompt = Prompt(example_id=example.id, messages=example.prompt, tools=example.tools)
        if len(prompts) < NUM_CHECK_PROMPTS and _leaves_room(prompt, renderer, max_tokens):
            prompts.append(prompt)
    if not rows:
        raise DataError(
            f"nothing can be trained of any of its {num_skipped} examples: every answer has weight 0, or lies beyond the "
            f"{max_tokens} tokens that are looked at",
            where=name,
            remedy="give one answer of each example weight 1, and shorten what comes before it",
        )
    counts = RowCounts(
        num_rows=len(rows),
        num_tokens=sum(len(row.token_ids) for row in rows),
        num_truncated=num_truncated,
        num_skipped=num_skipped,
        num_partly_trained=sum(row.num_untrained_turns > 0 for row in rows),
    )
    return JobRows(rows=tuple(rows), counts=counts, check_prompts=tuple(prompts) or _some_prompt())


def _objects(file: Path, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and value of each line; they end with a line feed alone, and blank ones are passed over."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            text = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
            if not text.strip():
                continue
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise _no_row(name, number, "is no JSON") from error
            if not isinstance(value, dict):
                raise _no_row(name, number, "is no JSON object")
            yield number, value


def _no_row(name: str, number: int, problem: str) -> DataError:
    return DataError(problem, where=f"{name}:{number}", remedy='write one object {"messages": [...]} a line')


def _example(values: dict[str, Any], place: Location) -> Example | None:
    """The example of a line; None: every answer of it has weight 0.

    Raises:
        DataError: It is none.
    """
    chat = ChatFormat()
    if not chat.matches(values):
        raise _no_row(place.file, place.line, "has no `messages`")
    try:
        conversation = chat.convert(values)
    except UnusableRowError as error:
        if error.note.code == _NOTHING_TRAINED:
            return None
        raise DataError(error.note.message, where=str(place), remedy=error.note.remedy) from error
    return Example(
        id=f"{place.file}:{place.line}", messages=conversation.messages, tools=conversation.tools, source=place
    )


def _cut(row: TokenisedExample, max_tokens: int) -> TokenisedExample | None:
    """The row's beginning; None: nothing of that is trained."""
    if len(row.token_ids) <= max_tokens:
        return row
    cut = replace(row, token_ids=row.token_ids[:max_tokens], is_trained=row.is_trained[:max_tokens])
    return cut if any(cut.is_trained) else None


def _leaves_room(prompt: Prompt, renderer: ChatRenderer, max_tokens: int) -> bool:
    return len(renderer.prompt_tokens(prompt.messages, prompt.tools)) + _ROOM_FOR_AN_ANSWER <= max_tokens


def _some_prompt() -> tuple[Prompt, ...]:
    """Where all prompts are too long to be looked at."""
    return (Prompt(example_id="check", messages=(Message(role="user", content="Hello"),)),)

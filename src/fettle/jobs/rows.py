"""A job's file to tokens: chat rows, cut at what the model takes. The file was checked when it came in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fettle.chat.renderer import ChatRenderer
from fettle.errors import DataError
from fettle.examples.notes import UnusableRowError
from fettle.examples.row_formats.turns import up_to_wanted_answer
from fettle.jobs.job_folder import RowCounts
from fettle.jobs.training_rows import FileRole, read_training_rows
from fettle.records import Example, Message, Prompt, TokenisedExample

NUM_CHECK_PROMPTS = 4
_ROOM_FOR_AN_ANSWER = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRows:
    """A file's rows as they are trained or evaluated on."""

    rows: tuple[TokenisedExample, ...]
    """One for each row of the file, or several next to each other (`ChatRenderer.example_rows`)."""
    counts: RowCounts
    check_prompts: tuple[Prompt, ...]
    """The first few that leave room for an answer; at least one."""
    warnings: tuple[str, ...]
    """What should be said of the file, such as keys that are not used."""


def read_job_rows(file: Path, renderer: ChatRenderer, role: FileRole, *, max_tokens: int, least: int = 1) -> JobRows:
    """The rows of a file of chat rows, JSON Lines.

    Args:
        file: The file.
        renderer: Of the base model.
        role: What the file is for.
        max_tokens: Longer rows are cut there; those of which nothing is trained then are skipped.
        least: How many rows there must be, the skipped ones included.

    Raises:
        DataError: A line is no chat row that can be trained, or nothing is left of any.
    """
    rows: list[TokenisedExample] = []
    prompts: list[Prompt] = []
    num_rows = num_tokens = num_truncated = num_skipped = num_partly_trained = 0
    read = read_training_rows(file, role, name=role.value, least=least)
    for given in read.examples:
        num_tokens += min(renderer.num_tokens(given), max_tokens)
        example = learned_part(given)
        whole = () if example is None else renderer.example_rows(example)
        kept = [cut for row in whole if (cut := _cut(row, max_tokens)) is not None]
        if example is None or not kept:
            num_skipped += 1
            continue
        num_rows += 1
        num_truncated += max(len(row.token_ids) for row in whole) > max_tokens
        num_partly_trained += any(row.num_untrained_turns for row in whole)
        rows += kept
        prompt = Prompt(example_id=example.id, messages=example.prompt, tools=example.tools)
        if prompt.messages and len(prompts) < NUM_CHECK_PROMPTS and _leaves_room(prompt, renderer, max_tokens):
            prompts.append(prompt)
    if not rows:
        raise DataError(
            f"nothing can be trained of any of its {num_skipped} examples: every answer has weight 0, or lies beyond the "
            f"{max_tokens} tokens that are looked at",
            where=role.value,
            remedy="give one answer of each example weight 1, and shorten what comes before it",
        )
    counts = RowCounts(
        num_rows=num_rows,
        num_tokens=num_tokens,
        num_truncated=num_truncated,
        num_skipped=num_skipped,
        num_partly_trained=num_partly_trained,
    )
    return JobRows(
        rows=tuple(rows), counts=counts, check_prompts=tuple(prompts) or _some_prompt(), warnings=read.warnings
    )


def learned_part(example: Example) -> Example | None:
    """The example up to its last answer that is learned; None: every answer has weight 0."""
    try:
        messages, _ = up_to_wanted_answer(example.messages)
    except UnusableRowError:
        return None
    return replace(example, messages=messages)


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

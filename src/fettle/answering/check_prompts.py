"""Prompts that lie beside a tuned model: on them what answers shows that it answers as was trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fettle.errors import ModelError
from fettle.examples.notes import UnusableRowError
from fettle.examples.row_formats.chat import messages_and_tools
from fettle.examples.write import prompt_row
from fettle.files import write_atomically
from fettle.records import Prompt

CHECK_PROMPTS_FILE = "check_prompts.json"


def write_check_prompts(folder: Path, prompts: Sequence[Prompt]) -> None:
    """Leave some prompts in a model's folder."""
    rows = [prompt_row(prompt) for prompt in prompts]
    write_atomically(folder / CHECK_PROMPTS_FILE, json.dumps(rows, ensure_ascii=False, indent=1))


def read_check_prompts(folder: Path) -> tuple[Prompt, ...]:
    """The prompts of a model's folder; empty where none were left.

    Raises:
        ModelError: The file is damaged.
    """
    file = folder / CHECK_PROMPTS_FILE
    try:
        rows = json.loads(file.read_bytes())
        told = [messages_and_tools(row) for row in rows]
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError, KeyError, UnusableRowError) as error:
        raise ModelError("this file of a tuned model is damaged", where=str(file), remedy="delete it") from error
    return tuple(
        Prompt(example_id=f"check-{number}", messages=messages, tools=tools)
        for number, (messages, tools) in enumerate(told)
    )

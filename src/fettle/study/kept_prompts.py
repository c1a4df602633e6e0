"""The conversations of the test split, beside the report: its rows hold what the user says, and not the turns and system messages
around it. Whoever asks the same again (`fettle release`) needs all of it.

They are kept only where some example is more than one message behind the study's instruction, and in the folder alone, like the
answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fettle.errors import DataError
from fettle.files import peek_json_lines, write_json_lines
from fettle.records import Example, Message
from fettle.study.workspace import study_key

_FILE = Path("answers") / "asked.jsonl"
_MESSAGES: TypeAdapter[tuple[Message, ...]] = TypeAdapter(tuple[Message, ...])


def keep_prompts(test: Sequence[Example], instruction: str | None, folder: Path, *, key: str) -> None:
    """Keep what is asked in the test split, where the report's rows do not say it.

    Examples with functions to call are left out: who asks brings those along.

    Args:
        test: With their instruction.
        instruction: What stands before every example's message; None: they have their own.
        folder: The study's.
        key: The study's.
    """
    asked = [(example, _without(instruction, example)) for example in test if not example.tools]
    if all(_is_told_by_its_row(example, messages) for example, messages in asked):
        return
    rows = [{"id": example.id, "messages": _MESSAGES.dump_python(messages, mode="json")} for example, messages in asked]
    write_json_lines(folder / _FILE, [{"key": key}, *rows])


def kept_prompts(folder: Path) -> Mapping[str, tuple[Message, ...]] | None:
    """What was asked in a study's test split, by the id of the example, without the study's instruction; None: nothing was kept.

    Raises:
        DataError: The file is another study's, or was damaged.
    """
    rows = peek_json_lines(folder / _FILE)
    if not rows:
        return None
    try:
        if rows[0]["key"] != study_key(folder):
            raise KeyError
        return {row["id"]: _MESSAGES.validate_python(row["messages"]) for row in rows[1:]}
    except (KeyError, ValidationError) as error:
        raise DataError(
            "what was asked in the test split is not what the study has kept",
            where=str(folder / _FILE),
            remedy="delete the file, and run the same `fettle study` command again: it keeps it anew",
        ) from error


def _without(instruction: str | None, example: Example) -> tuple[Message, ...]:
    """What is asked, without the instruction that the study has put before it."""
    prompt = example.prompt
    return prompt[1:] if prompt and prompt[0].is_system and prompt[0].content == instruction else prompt


def _is_told_by_its_row(example: Example, messages: Sequence[Message]) -> bool:
    return len(messages) == 1 and messages[0].role == "user" and messages[0].content == example.input_text

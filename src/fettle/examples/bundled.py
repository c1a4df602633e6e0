"""The example data that comes with Fettle: the support inbox of Larkway Parcels, made up for this project.

Three tasks come from the same 660 messages. Everything else treats them like a user's own file.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from fettle.errors import ConfigError
from fettle.examples.column_names import ColumnMapping

PREFIX = "example:"
_FOLDER = Path(__file__).parent / "parcels"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledTask:
    """A bundled task: the file, its columns, and the instruction a team would give."""

    examples: Path
    columns: ColumnMapping
    instruction: str


_TASKS = {"triage": ("triage", "triage.md"), "routing": ("queue", "routing.md"), "replies": ("reply", "guide.md")}
"""By name: the column with the answer, and the file with the instruction."""


def bundled_task(name: str) -> BundledTask | None:
    """The bundled task that `example:NAME` means; None for any other name.

    Raises:
        ConfigError: It begins with `example:` but there is no such task.

    >>> bundled_task("example:routing").columns.answer
    'queue'
    """
    if not name.startswith(PREFIX):
        return None
    wanted = name.removeprefix(PREFIX)
    if wanted not in _TASKS:
        near = difflib.get_close_matches(wanted, _TASKS, n=1)
        hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
        raise ConfigError(f"there is no bundled example {wanted!r}{hint}", remedy=f"choose one of {', '.join(_TASKS)}")
    answer, instruction = _TASKS[wanted]
    return BundledTask(
        examples=_FOLDER / "inbox.jsonl",
        columns=ColumnMapping(input="message", answer=answer, id="id"),
        instruction=(_FOLDER / instruction).read_text().strip(),
    )

"""The options of `fettle study` about examples and how answers are graded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fettle.records import TaskKind

_PANEL = "Data"

InputColumnOption = Annotated[
    str | None, typer.Option("--input", help="Column or key with the message.", rich_help_panel=_PANEL)
]
AnswerColumnOption = Annotated[
    str | None, typer.Option("--answer", help="Column or key with the wanted answer.", rich_help_panel=_PANEL)
]
GroupColumnOption = Annotated[
    str | None,
    typer.Option("--group", help="Column or key; rows with the same value stay in one split.", rich_help_panel=_PANEL),
]
ValidFileOption = Annotated[Path | None, typer.Option(help="Your own validation file.", rich_help_panel=_PANEL)]
TestFileOption = Annotated[
    Path | None,
    typer.Option(help="Your own test file; EXAMPLES are then the training examples.", rich_help_panel=_PANEL),
]
TrainSizeOption = Annotated[
    int | None, typer.Option(min=1, help="Use only so many training examples.", rich_help_panel=_PANEL)
]
ValidSizeOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Validation examples: a number, or a share below 1; of your own file, where you give one.",
        rich_help_panel=_PANEL,
    ),
]
TestSizeOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Test examples: a number, or a share below 1; of your own file, where you give one.",
        rich_help_panel=_PANEL,
    ),
]
InstructionOption = Annotated[
    str | None,
    typer.Option(help="The instruction all contenders get; @FILE reads it from a file.", rich_help_panel=_PANEL),
]
TaskKindOption = Annotated[
    TaskKind | None,
    typer.Option(help="What kind of answer it is; recognised when left out.", rich_help_panel=_PANEL),
]
GraderOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME|FILE",
        help="What decides: the name of a built-in grader, or a JSON file with a grader of OpenAI's API (@FILE where the two "
        "have one name). Given again, the others are shown beside it.",
        rich_help_panel=_PANEL,
    ),
]
LeaveOutLongOption = Annotated[
    bool,
    typer.Option("--leave-out-long", help="Leave out examples longer than the model takes.", rich_help_panel=_PANEL),
]

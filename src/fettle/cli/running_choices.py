"""The options of `fettle study` about how it is run and what else it tells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_PANEL = "Running"

PricePerHourOption = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        help="What the machine costs an hour, in any currency: plan and end then tell the cost.",
        rich_help_panel=_PANEL,
    ),
]
MaxNewTokensOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Longest answer, tokens; left out: twice the longest training answer, of JSON half as much again.",
        rich_help_panel=_PANEL,
    ),
]
WorthwhileOption = Annotated[
    float,
    typer.Option(
        min=0.0, max=100.0, help="Smallest gain worth a tuned model, percentage points.", rich_help_panel=_PANEL
    ),
]
LearningCurveOption = Annotated[
    bool,
    typer.Option(
        "--learning-curve",
        help="Train on 25 and 50 % of the examples too, and say what more of them would probably bring.",
        rich_help_panel=_PANEL,
    ),
]
SeedOption = Annotated[
    int,
    typer.Option(min=0, help="Of the split, the shots, the adapter and the order of examples.", rich_help_panel=_PANEL),
]
StudyFolderOption = Annotated[
    Path | None, typer.Option(help="Folder of the study. Default: one under FETTLE_HOME.", rich_help_panel=_PANEL)
]
StudyProjectOption = Annotated[
    str,
    typer.Option(
        "--project",
        help="Whose index is searched, and whose the tuned model will be; made where there is none.",
        rich_help_panel=_PANEL,
    ),
]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Start over instead of going on.", rich_help_panel=_PANEL)]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what the study will take and can show, and stop.", rich_help_panel=_PANEL),
]

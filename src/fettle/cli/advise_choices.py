"""The options of `fettle advise`: one for each question."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

_PANEL = "Questions"


class SaidOption(StrEnum):
    """The same words as `advice.questions.Said`, which the command line must not import early."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


KnowledgeOption = Annotated[
    SaidOption | None,
    typer.Option(
        help="Do the facts that answers need change within weeks (prices, stock, rules)?", rich_help_panel=_PANEL
    ),
]
FormatOption = Annotated[
    SaidOption | None,
    typer.Option(
        help="Does a prompted model know what to answer, and get the form or the tone wrong?", rich_help_panel=_PANEL
    ),
]
LargeModelOption = Annotated[
    SaidOption | None,
    typer.Option(help="May messages be sent to a large model behind an endpoint?", rich_help_panel=_PANEL),
]
RequestsPerDayOption = Annotated[
    float | None, typer.Option(help="How many requests a day there will be.", rich_help_panel=_PANEL)
]
LatencyOption = Annotated[
    float | None, typer.Option(help="How many seconds one answer may take.", rich_help_panel=_PANEL)
]
CostPerWrongAnswerOption = Annotated[
    float | None, typer.Option(help="What a wrong answer costs you, in your currency.", rich_help_panel=_PANEL)
]
AnswersFileOption = Annotated[
    Path | None,
    typer.Option(
        "--answers",
        metavar="FILE",
        help="TOML file with the answers, by the names of these options with underscores; nothing is asked then.",
        rich_help_panel=_PANEL,
    ),
]
TimingOption = Annotated[
    bool,
    typer.Option(
        "--timing/--no-timing",
        help="Measure one training step and a few answers, for minutes and money; takes most of the time.",
        rich_help_panel="Running",
    ),
]

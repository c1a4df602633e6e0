"""The options of `fettle study` about what was forgotten, and what they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fettle.errors import ConfigError

if TYPE_CHECKING:
    from fettle.forgetting.settings import ForgettingSettings, HarnessSettings

_PANEL = "Running"

ForgettingOption = Annotated[
    bool,
    typer.Option(
        "--forgetting/--no-forgetting",
        help="Look for what the tuned model has forgotten of what its base model could do.",
        rich_help_panel=_PANEL,
    ),
]
StrengthSweepOption = Annotated[
    bool,
    typer.Option(
        "--strength-sweep/--no-strength-sweep",
        help="Try the adapter at several strengths on validation, and use the weakest that does as well and keeps the budget.",
        rich_help_panel=_PANEL,
    ),
]
BudgetOption = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=100.0,
        help="Percentage points of what the base model can that may be lost, 5 when left out.",
        rich_help_panel=_PANEL,
    ),
]
MustStillWorkOption = Annotated[
    Path | None,
    typer.Option(help="Your own examples of what must still work after tuning.", rich_help_panel=_PANEL),
]
HarnessTaskOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A task of lm-evaluation-harness to see what was forgotten by, such as arc_easy; several times for several. Its data "
        "may be fetched from Hugging Face.",
        rich_help_panel=_PANEL,
    ),
]
HarnessPathOption = Annotated[
    Path | None,
    typer.Option(help="Folder of your own tasks for --harness-task, as YAML files.", rich_help_panel=_PANEL),
]
HarnessLimitOption = Annotated[
    int | None,
    typer.Option(min=2, help="So many questions of each --harness-task. Default: all.", rich_help_panel=_PANEL),
]


def harness_settings(tasks: list[str] | None, path: Path | None, limit: int | None) -> HarnessSettings | None:
    """What the options ask for; None: nothing.

    Raises:
        ConfigError: They are about no task.
    """
    from fettle.forgetting.settings import HarnessSettings

    if tasks is None:
        if path is not None or limit is not None:
            raise ConfigError(
                "no task of lm-evaluation-harness is named",
                where="--harness-path, --harness-limit",
                remedy="add --harness-task NAME, or leave them out",
            )
        return None
    return HarnessSettings(tasks=tuple(tasks), path=path, limit=limit)


def forgetting_settings(
    budget: float | None,
    must_still_work: Path | None,
    harness: HarnessSettings | None,
    *,
    sweeps: bool,
    is_wanted: bool,
) -> ForgettingSettings | None:
    """What the options ask for; None: forgetting is not looked for.

    Raises:
        ConfigError: It is not, and an option is about it.
    """
    from fettle.forgetting.budget import ForgettingBudget
    from fettle.forgetting.settings import ForgettingSettings

    if not is_wanted:
        if (budget, must_still_work, harness) != (None, None, None):
            raise ConfigError(
                "--no-forgetting goes with none of --forgetting-budget, --must-still-work and --harness-task",
                remedy="leave out the one or the other",
            )
        return None
    chosen = ForgettingBudget() if budget is None else ForgettingBudget(points=budget)
    return ForgettingSettings(budget=chosen, must_still_work=must_still_work, harness=harness, sweeps_strength=sweeps)

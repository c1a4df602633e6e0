"""The options about money: a file with prices, traffic, wages and what answers are worth, and single values of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fettle.economics_records import Assumptions

EconomicsOption = Annotated[
    Path | None,
    typer.Option(
        "--economics",
        metavar="FILE",
        help="TOML file of your own prices, traffic, wages and what answers are worth; every line is optional (docs/economics.md).",
        rich_help_panel="Running",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A single value over the file's, such as traffic.requests_per_day=20000, or =[500, 2000, 9000] for a range. "
        "Can be given several times.",
    ),
]


def assumptions_of(file: Path | None, before: Assumptions | None = None) -> Assumptions:
    """What the file says, over what was assumed before; `before` alone where there is none.

    Raises:
        ConfigError: The file says something that cannot be.
    """
    from fettle.economics.assumptions import read_assumptions
    from fettle.economics_records import Assumptions

    before = before or Assumptions()
    return before if file is None else read_assumptions(file, before)

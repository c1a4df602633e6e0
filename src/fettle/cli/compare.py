"""`fettle compare`: two finished studies on the test rows that both have."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fettle.cli.finished_study import report_path
from fettle.errors import EXIT_CANNOT_TELL, EXIT_SHIP, EXIT_STAY, ConfigError

if TYPE_CHECKING:
    from fettle.comparing.records import ComparedStudies

_FORMAT, _FORMAT_VERSION = "fettle-compared", 1


def compare(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="Folder of a finished study, or its report: last month's, say.")
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one: today's.")],
    contender: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Compare this contender of both; several times for several, the first decides."
        ),
    ] = None,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="B:NAME A:NAME", help="Compare these two alone, such as B:tuned A:prompt."),
    ] = None,
    worthwhile: Annotated[
        float, typer.Option(min=0.0, max=100.0, help="Smallest gain that matters, percentage points.")
    ] = 1.0,
    rows: Annotated[
        int, typer.Option(min=0, help="Print so many rows that became better, and so many that became worse.")
    ] = 3,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON, all changed rows included.")
    ] = False,
) -> None:
    """Is study B's tuned model better than study A's? Compares contenders on the test rows that both studies have.

    Exit code 0 better, 3 not better, 4 cannot tell yet.
    """
    from fettle.cli.comparison import print_comparison
    from fettle.comparing.arms import arm_pairs
    from fettle.comparing.compare import compare_studies
    from fettle.comparing.records import Outcome
    from fettle.study.report import read_report

    paths = report_path(first), report_path(second)
    if paths[0].resolve() == paths[1].resolve():
        raise ConfigError("both are the same study", where=str(paths[0]), remedy="name two studies")
    reports = read_report(paths[0]), read_report(paths[1])
    pairs = arm_pairs(*reports, contenders=contender or (), between=between)
    compared = compare_studies(*reports, pairs, worthwhile=worthwhile / 100)
    if as_json:
        typer.echo(_as_json(compared))
    else:
        print_comparison(compared, num_rows=rows)
    codes = {Outcome.BETTER: EXIT_SHIP, Outcome.NOT_BETTER: EXIT_STAY, Outcome.CANNOT_TELL: EXIT_CANNOT_TELL}
    raise typer.Exit(codes[compared.outcome])


def _as_json(compared: ComparedStudies) -> str:
    document = {"format": _FORMAT, "format_version": _FORMAT_VERSION} | dataclasses.asdict(compared)
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1)

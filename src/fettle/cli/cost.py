"""`fettle cost`: what a finished study's contenders cost, and when tuning has paid, with other assumptions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fettle.cli.finished_study import report_path
from fettle.cli.money_choices import EconomicsOption, SetOption, assumptions_of

if TYPE_CHECKING:
    from fettle.economics_records import EconomicsReport
    from fettle.routing_records import RoutingReport

_FORMAT, _FORMAT_VERSION = "fettle-economics", 1
_MAX_TITLE = 40


def cost(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a finished study, or its report.")],
    economics: EconomicsOption = None,
    setting: SetOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON, every line of the calculation included.")
    ] = False,
) -> None:
    """What answers cost, and when tuning has paid for itself, at other prices, traffic or wages. Nothing is run again.

    Begins with what the study was told; the file goes over that, and --set over the file. The report stays as it is.
    """
    from fettle.economics.assumptions import with_settings
    from fettle.settings import get_settings
    from fettle.study.economics_report import economics_report, read_prices, routing_costs
    from fettle.study.report import read_report
    from fettle.study.routing_views import routing_sentence

    report = read_report(report_path(study))
    before = None if report.economics is None else report.economics.assumptions
    said = with_settings(assumptions_of(economics, before), setting or ())
    prices, titles = read_prices(get_settings().home), {one.name: one.title for one in report.contenders}
    found, costs = economics_report(report, said, prices), routing_costs(report, said, prices)
    routing = report.routing and dataclasses.replace(report.routing, costs=costs)
    if as_json:
        document = {"format": _FORMAT, "format_version": _FORMAT_VERSION} | dataclasses.asdict(found)
        document["routing"] = _routing_document(routing)
        typer.echo(json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1))
        return
    _print(found, titles)
    if routing is not None:
        typer.echo(_plain(f"\nRouter: {routing_sentence(routing, titles)}"))


def _routing_document(routing: RoutingReport | None) -> dict[str, float] | None:
    """None: there is no router, or what one of its contenders costs is not known."""
    if routing is None or routing.costs is None:
        return None
    share = routing.share_to_large.estimate
    of_both = {"share_to_large": share, "cost_per_request": routing.costs.cost_per_request(share)}
    return dataclasses.asdict(routing.costs) | of_both


def _print(found: EconomicsReport, titles: dict[str, str]) -> None:
    from fettle.cli.tables import one_line, print_table
    from fettle.study.economics_views import cost_row
    from fettle.study.economics_words import money_lines, range_text

    rows = [cost_row(one, titles) for one in found.contenders]
    currency, has_value = found.assumptions.currency, found.assumptions.worth.value_per_right_answer is not None
    headings = (
        "",
        "right, %",
        "1,000 requests",
        "1,000 right answers",
        "with checks and errors",
        "beforehand",
        "machines",
    )
    headings += ("median, s", "95 %, s", "99 %, s") + (("net value a month", "pays its way from") if has_value else ())
    typer.echo(f"Money in {currency}.")
    print_table(
        headings,
        [
            tuple(
                _plain(text)
                for text in (
                    one_line(row.title, _MAX_TITLE),
                    row.right,
                    row.per_thousand,
                    row.per_right,
                    row.full_per_thousand,
                    row.beforehand,
                    row.machines,
                    *row.latencies,
                    *((row.net_value, row.margin_from) if has_value else ()),
                )
            )
            for row in rows
        ],
    )
    typer.echo("")
    for title, text in money_lines(found):
        typer.echo(_plain(f"{title}: {text}"))
    typer.echo(_plain(found.right_meaning))
    typer.echo("\nWhat these figures rest on:")
    print_table(("", "value", "from"), [(one.name, range_text(one.value), one.source) for one in found.stated])


def _plain(text: str) -> str:
    text = text.replace("\N{NO-BREAK SPACE}", " ")
    return "".join(character if character.isprintable() else "\ufffd" for character in text)

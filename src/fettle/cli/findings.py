"""Findings as a table: of examples, and of documents."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fettle.cli.tables import one_line
from fettle.records import Finding, Severity

_MOST_FILE_CHARACTERS = 400
_COLOURS = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


def print_findings(console: Console, findings: Sequence[Finding], *, limit: int, names_files: bool = False) -> None:
    """Print findings as a table: each kind with the first `limit` places; `names_files` even where all are of one file."""
    from fettle.examples.check import summarise_findings

    if not findings:
        console.print("[green]Nothing to report.[/]")
        return
    has_many_files = names_files or len({finding.file for finding in findings}) > 1
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 2, 1, 0))
    table.add_column("finding", no_wrap=True)
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("where, what, and what to do", ratio=1, overflow="fold")
    for group in summarise_findings(findings):
        table.add_row(
            Text.assemble(
                group.code, "\n", (f"{group.severity}, {group.action}", "dim"), style=_COLOURS[group.severity]
            ),
            f"{len(group.findings):,}",
            _details(group.findings, limit=limit, has_many_files=has_many_files),
        )
    console.print(table)
    counts = Counter(finding.severity for finding in findings)
    console.print(", ".join(f"{counts[severity]:,} findings of severity {severity}" for severity in Severity))


def _details(findings: Sequence[Finding], *, limit: int, has_many_files: bool) -> Text:
    """The first `limit` places, those with the same message on one line, and their remedies."""
    remedies = dict.fromkeys(finding.remedy for finding in findings[:limit])
    places_by_message: dict[str, list[str]] = defaultdict(list)
    for finding in findings[:limit]:
        places_by_message[finding.message].append(_place(finding, has_many_files=has_many_files))
    text = Text()
    for message, places in places_by_message.items():
        text.append(_joined(places), style="bold").append(f": {message}\n")
    if len(findings) > limit:
        text.append(f"… and {len(findings) - limit:,} more\n", style="dim")
    return text.append("\n".join(f"→ {remedy}" for remedy in remedies), style="green")


def _joined(places: Sequence[str]) -> str:
    """Several places as one phrase: `lines 3, 7, 9`."""
    if len(places) > 1 and all(place.startswith("line ") for place in places):
        return "lines " + ", ".join(place.removeprefix("line ") for place in places)
    return ", ".join(places)


def _place(finding: Finding, *, has_many_files: bool) -> str:
    file = one_line(finding.file, _MOST_FILE_CHARACTERS)
    if finding.line is None:
        return file if has_many_files else "whole file"
    return f"{file}:{finding.line}" if has_many_files else f"line {finding.line}"

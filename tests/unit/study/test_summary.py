"""The terminal's summary fits 80 columns, says the verdict, and prints texts as texts."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from build_report import ALL, hostile_report, label_report
from rich.cells import cell_len
from rich.console import Console

from fettle.study.report import ReportPaths
from fettle.study.summary import print_summary


def printed(report, *, width=80, **options):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    print_summary(report, console, **options)
    return console.file.getvalue()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("width", [80, 60])
def test_no_line_is_wider_than_the_terminal(name, width):
    assert all(cell_len(line) <= width for line in printed(ALL[name](), width=width).splitlines())


def test_the_summary_says_the_verdict_the_figures_and_the_place():
    text = printed(label_report(), paths=ReportPaths(html=Path("runs/report.html"), json=Path("runs/report.json")))
    text = text.replace("\u00a0", " ")
    for wanted in (
        "Stay with the baseline",
        "−13.8 points (−18.2 to −9.4)",
        "p < 0.001",
        "runs/report.html",
        "73.1 to 80.5",
    ):
        assert wanted in text


def test_win_rates_are_against_the_baseline_from_either_direction():
    report = label_report()
    turned = replace(report, comparisons=tuple(
        replace(one, challenger=one.baseline, baseline=one.challenger,
                win_rate=replace(one.win_rate, estimate=1 - one.win_rate.estimate))
        if not one.is_primary else one for one in report.comparisons))  # fmt: skip
    assert printed(turned) == printed(report)


def test_markup_and_escape_sequences_stay_text():
    text = printed(hostile_report("[bold red]x[/] \x1b[31m [link=http://x]y[/link]"), width=400)
    assert "[bold red]x[/]" in text
    assert "\x1b" not in text


def test_a_no_break_space_is_a_space():
    text = printed(replace(label_report(), warnings=("It scored +6.7\N{NO-BREAK SPACE}points higher.",)))
    assert "It scored +6.7 points higher." in text
    assert "\N{REPLACEMENT CHARACTER}" not in text

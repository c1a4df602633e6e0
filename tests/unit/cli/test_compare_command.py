from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from build_report import label_report
from fettle.cli.compare import compare
from fettle.cli.tables import interval_bars
from fettle.errors import ConfigError, DataError
from fettle.records import Interval
from fettle.report_records import StudyReport
from fettle.study.report import write_report

app = typer.Typer()
app.command()(compare)


def run(*arguments: object):
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def improved(report: StudyReport, *, gain: float, seed: int = 5) -> StudyReport:
    """The same rows in another order and of another file, the tuned model mending such a share of its errors."""
    rng = random.Random(seed)
    rows = []
    for place, row in enumerate(report.rows):
        mends = row.scores["tuned"] == 0 and rng.random() < gain
        answers = {**row.answers, "tuned": row.wanted} if mends else row.answers
        scores = {**row.scores, "tuned": 1.0} if mends else row.scores
        rows.append(replace(row, example_id=f"new-{place}", source=f"new.csv:{place}", answers=answers, scores=scores))
    rng.shuffle(rows)
    told = [replace(one, description=one.description.replace("rank 16", "rank 4")) for one in report.contenders]
    origin = replace(report.provenance, settings={**report.provenance.settings, "worthwhile": 0.02})
    return replace(report, rows=tuple(rows), contenders=tuple(told), provenance=origin)


@pytest.fixture
def two_studies(tmp_path: Path) -> tuple[Path, Path]:
    report = label_report(num_rows=200)
    rows = tuple(replace(row, input_text=f"{row.input_text} ({row.example_id})") for row in report.rows)
    first = replace(report, rows=rows)
    write_report(first, tmp_path / "a")
    write_report(improved(first, gain=0.6), tmp_path / "b")
    return tmp_path / "a", tmp_path / "b"


def test_what_came_of_it_is_printed_and_is_the_exit_code(two_studies: tuple[Path, Path]) -> None:
    first, second = two_studies
    found = run(first, second / "report.html", "--rows", 1)
    assert found.exit_code == 0, found.output
    for said in (
        "B's Tuned (LoRA) is better than A's Tuned (LoRA): +",
        "200 test rows, 100.0 % of them shared",
        "Compared on 200 test rows that both have, by Exact label.",
        "B:tuned − A:tuned",
        "B:classifier − A:classifier",
        "p (Holm)",
        "Became better (",
        "rows, 1 of them):",
        "Settings    worthwhile",
        "Note: Looks at test questions",
    ):
        assert said in found.output
    assert "of rank 16, trained" in found.output, "long texts are shown from where they part"
    assert "Became worse" not in found.output
    assert "\u00a0" not in found.output
    assert run(second, first).exit_code == 3
    assert run(first, second, "--contender", "prompt", "--worthwhile", 0).exit_code == 4, "all ties decide nothing"


def test_json_has_everything_and_nothing_else_is_printed(two_studies: tuple[Path, Path]) -> None:
    found = run(*two_studies, "--json", "--between", "B:tuned", "A:classifier")
    document = json.loads(found.stdout)
    assert (document["format"], document["format_version"]) == ("fettle-compared", 1)
    [only] = document["comparisons"]
    assert (only["comparison"]["challenger"], only["comparison"]["baseline"]) == ("B:tuned", "A:classifier")
    assert len(document["fixed"]) == only["comparison"]["num_wins"]
    assert len(document["broken"]) == only["comparison"]["num_losses"]
    assert found.exit_code == {"better": 0, "not better": 3, "cannot tell yet": 4}[document["outcome"]]


def test_no_rows_are_printed_where_none_are_wanted(two_studies: tuple[Path, Path]) -> None:
    assert "Became" not in run(*two_studies, "--rows", 0).output


def test_escape_sequences_in_answers_do_not_reach_the_terminal(two_studies: tuple[Path, Path]) -> None:
    first, second = two_studies
    for folder in (first, second):
        text = (folder / "report.json").read_text()
        (folder / "report.json").write_text(text.replace('"input_text": "', '"input_text": "\\u001b[31m'))
    assert "\x1b" not in run(first, second, "--rows", 5).output


def test_one_study_twice_and_no_study_are_refused(two_studies: tuple[Path, Path], tmp_path: Path) -> None:
    first, _ = two_studies
    with pytest.raises(ConfigError, match="both are the same study"):
        run(first, first / "report.html")
    with pytest.raises(DataError, match="no such study"):
        run(first, tmp_path / "none")


def test_bars_share_an_axis_that_holds_zero() -> None:
    far = Interval(estimate=0.5, low=0.25, high=0.75)
    assert interval_bars([far], width=13) == ("│   ├───●───┤",)
    spanning = Interval(estimate=-0.25, low=-1.0, high=0.5)
    assert interval_bars([spanning], width=13) == ("├─────●─┼───┤",)
    nothing = Interval(estimate=0.0, low=0.0, high=0.0)
    assert interval_bars([nothing, nothing], width=5) == ("●    ",) * 2

"""`fettle advise`: options that a finished study has no use for are refused, not passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from build_report import label_report
from fettle.cli.main import app
from fettle.errors import ConfigError
from fettle.study.report import print_report


@pytest.mark.parametrize(
    "more",
    [
        ("--train-size", "10"),
        ("--test", "other.csv"),
        ("--group", "customer"),
        ("--remote-model", "big"),
        ("--price-per-hour", "3"),
        ("--no-timing",),
        ("--seed", "7"),
    ],
)
def test_after_a_study_options_of_data_are_refused(more: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(print_report(label_report()), "utf-8")
    assert CliRunner().invoke(app, ["advise", str(tmp_path)]).exit_code == 0
    refused = CliRunner().invoke(app, ["advise", str(tmp_path), *more])
    assert isinstance(refused.exception, ConfigError)

"""What a user may say of money, and what is refused."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from fettle.economics.assumptions import read_assumptions, with_said, with_settings
from fettle.economics.price_table import price_table
from fettle.economics_records import Assumptions, Origin, Range
from fettle.errors import ConfigError

FILE = """
currency = "EUR"
usd = 0.9

[traffic]
requests_per_day = {low = 500, best = 2000, high = 8000}
busy_hours_per_day = 6
cached_share = [0, 0.2, 0.6]

[machine]
name = "gpu"
bills_idle = false

[worth]
cost_per_wrong_answer = 1.5
right_from_score = 0.8

[tuning]
horizon_days = 90
"""


def test_a_file_says_what_it_says_and_the_rest_is_assumed(tmp_path: Path) -> None:
    file = tmp_path / "money.toml"
    file.write_text(FILE)
    said = read_assumptions(file)
    assert (said.currency, said.usd) == ("EUR", 0.9)
    assert said.traffic.requests_per_day == Range(low=500, best=2000, high=8000)
    assert said.traffic.cached_share == Range(low=0, best=0.2, high=0.6)
    assert said.traffic.busy_hours_per_day.origin is Origin.SAID
    assert said.traffic.busy_share == Assumptions().traffic.busy_share
    assert said.traffic.busy_share.origin is Origin.ASSUMED
    assert (said.machine.name, said.machine.bills_idle) == ("gpu", False)
    assert (said.worth.right_from_score, said.tuning.horizon_days) == (0.8, 90)
    again = with_settings(
        said, ["traffic.busy_share=0.5", "machine.name=own", "worth.value_per_right_answer=[1, 2, 3]"]
    )
    assert (again.traffic.busy_share.best, again.machine.name) == (0.5, "own")
    assert again.worth.value_per_right_answer == Range(low=1, best=2, high=3)
    assert again.traffic.requests_per_day == said.traffic.requests_per_day


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("traffic.requests_per_day", "expected NAME=VALUE"),
        ("trafic.requests_per_day=3", "did you mean `traffic`"),
        ("traffic.request_per_day=3", "did you mean `traffic.requests_per_day`"),
        ("traffic=3", "is a table"),
        ("traffic.requests_per_day=many", "expected a number"),
        ("traffic.requests_per_day=true", "expected a number"),
        ("traffic.requests_per_day=0", "above 0"),
        ("traffic.requests_per_day=nan", "expected a number above 0"),
        ("traffic.requests_per_day=inf", "expected a number above 0"),
        ("traffic.requests_per_day=[3, 2, 1]", "low <= best <= high"),
        ("traffic.requests_per_day=[1, 2]", "three of them"),
        ("traffic.busy_share=1.5", "at most 1"),
        ("traffic.busy_hours_per_day=25", "at most 24"),
        ("worth.cost_per_wrong_answer=-1", "at least 0"),
        ("worth.right_from_score=80", "at most 1"),
        ("tuning.horizon_days=1.5", "whole number"),
        ("machine.bills_idle=perhaps", "true or false"),
        ("machine.name=3", "text in quotes"),
        ("machine.hosted_hours_per_day=4", "hours a day"),
        ('currency=" "', "no name"),
        ("usd=0.9", "needs no telling"),
        ("worth.cost_per_wrong_answer=1e300", "at most 1e+15"),
        ("traffic.requests_per_day=1e-300", "above 0"),
        (f"traffic.requests_per_day=1{'0' * 400}", "expected a number"),
    ],
)
def test_what_cannot_be_is_refused_by_name(setting: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)) as found:
        with_settings(Assumptions(), [setting])
    assert found.value.remedy


def test_settings_are_looked_at_together() -> None:
    said = with_settings(Assumptions(), ["machine.hosted_hours_per_day=6", "traffic.busy_hours_per_day=6"])
    assert (said.machine.hosted_hours_per_day.best, said.traffic.busy_hours_per_day.best) == (6, 6)
    assert with_settings(Assumptions(), ["usd=0.9", "currency=EUR"]).usd == 0.9


def test_no_amount_is_taken_over_into_another_currency() -> None:
    said = with_settings(Assumptions(), ["people.wage_per_hour=40", "machine.price_per_serving_hour=2"])
    with pytest.raises(ConfigError, match=r"machine\.price_per_serving_hour is an amount in the former"):
        with_settings(said, ["currency=EUR"])
    again = ["currency=EUR", "people.wage_per_hour=40", "machine.price_per_serving_hour=2"]
    assert with_settings(said, again).currency == "EUR"


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_assumptions(tmp_path / "missing.toml")
    file = tmp_path / "broken.toml"
    file.write_text("traffic = [")
    with pytest.raises(ConfigError, match="no TOML"):
        read_assumptions(file)


def test_every_assumption_can_be_said() -> None:
    tables = {field.name: getattr(Assumptions(), field.name) for field in fields(Assumptions)}
    for table, record in tables.items():
        if table in ("currency", "usd"):
            continue
        for field in fields(record):
            value = {"name": "own", "model": "gpt-4o-mini", "bills_idle": False}.get(field.name, 1)
            said = {table: {field.name: value}}
            if field.name == "hosted_hours_per_day":
                said["traffic"] = {"busy_hours_per_day": 1}
            after = with_said(Assumptions(), said, where="test")
            assert getattr(getattr(after, table), field.name) != getattr(record, field.name), field.name


def test_the_documented_files_are_read(tmp_path: Path) -> None:
    document = Path(__file__).parents[3] / "docs" / "economics.md"
    if not document.is_file():
        pytest.skip("no documentation here")
    said, prices = re.findall(r"```toml\n(.*?)```", document.read_text("utf-8"), re.DOTALL)
    file = tmp_path / "money.toml"
    file.write_text(said)
    assert read_assumptions(file).traffic.requests_per_day == Range(low=500, best=2000, high=8000)
    (tmp_path / "prices.toml").write_text(prices)
    assert price_table(tmp_path).machine("cpu").source == "our invoice"

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from build_report import json_report, label_report
from fettle.cli.cost import cost
from fettle.cli.prices import app as prices_app
from fettle.economics.assumptions import with_settings
from fettle.economics_records import Assumptions
from fettle.errors import ConfigError, RemoteError
from fettle.settings import get_settings
from fettle.study.economics_report import economics_report, read_prices
from fettle.study.report import write_report
from report_routing import routing

app = typer.Typer()
app.command()(cost)


def run(tool: typer.Typer, *arguments: object):
    found = CliRunner().invoke(tool, [str(argument) for argument in arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("FETTLE_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    yield tmp_path / "home"
    get_settings.cache_clear()


@pytest.fixture
def study(tmp_path: Path, home: Path) -> Path:
    report = json_report(num_rows=30)
    said = with_settings(Assumptions(), ["traffic.requests_per_day=700"])
    write_report(replace(report, economics=economics_report(report, said, read_prices(home))), tmp_path / "study")
    return tmp_path / "study"


def test_what_if_begins_with_what_the_study_was_told(study: Path, tmp_path: Path) -> None:
    before = (study / "report.json").read_bytes()
    assert "At 700 requests a day and these prices" in run(app, study).output
    file = tmp_path / "money.toml"
    file.write_text("[traffic]\nrequests_per_day = 30\n[worth]\ncost_per_wrong_answer = 2\n")
    found = run(app, study, "--economics", file, "--set", "machine.name=own")
    assert "At 30 requests a day" in found.output
    assert "pays from the first day: most of what a day saves is fewer wrong answers" in found.output
    assert "own (machine hour; by definition)" in found.output
    found = run(app, study / "report.json", "--economics", file, "--set", "traffic.requests_per_day=40")
    assert "At 40 requests a day" in found.output
    assert (study / "report.json").read_bytes() == before


def test_a_router_is_priced_anew(study: Path) -> None:
    assert json.loads(run(app, study, "--json").output)["routing"] is None
    write_report(replace(label_report(num_rows=60), routing=routing()), study)
    assert json.loads(run(app, study, "--json").output)["routing"] is None, "what the large one costs is not known"
    large = ["--set", "remote.price_per_million_input_tokens=3", "--set", "remote.price_per_million_output_tokens=15"]
    found = json.loads(run(app, study, *large, "--json").output)
    cost = {one["contender"]: sum(term["cost"] for term in one["terms"]) for one in found["contenders"]}
    share = found["routing"]["share_to_large"]
    assert found["routing"]["cost_per_request"] == pytest.approx(cost["tuned"] + share * cost["remote"])
    assert "Router: " in (told := run(app, study, *large).output)
    assert "A thousand requests cost" in told


def test_json_has_every_line(study: Path) -> None:
    document = json.loads(run(app, study, "--json").output)
    assert document["format"] == "fettle-economics"
    assert document["assumptions"]["traffic"]["requests_per_day"]["best"] == 700
    [term] = document["contenders"][0]["terms"]
    assert term["cost"] == term["quantity"] * term["price"]
    assert document["break_evens"][0]["band"]["num_draws"] == 10_000


def test_a_report_of_an_older_version_can_be_asked(tmp_path: Path, home: Path) -> None:
    write_report(json_report(num_rows=20), tmp_path / "old")
    assert "1,000 requests a day (assumed)" in run(app, tmp_path / "old").output


def test_mistakes_are_named(study: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        run(app, study, "--set", "traffic.request_per_day=3")


def test_prices_are_shown_with_their_sources(home: Path) -> None:
    shown = run(prices_app, "show").output
    assert "machine hour" in shown
    assert "https://www.runpod.io/pricing" in shown
    assert "2026-11-09" in shown
    found = run(prices_app, "show", "gpt-4o-mini").output
    assert "openai: gpt-4o-mini" in found
    assert "genai-prices" in found
    with pytest.raises(ConfigError, match="no price is known"):
        run(prices_app, "show", "no-such-model-at-all")


def test_updating_without_an_answer_keeps_what_is_there(home: Path) -> None:
    with pytest.raises(RemoteError, match="no prices could be fetched"):
        run(prices_app, "update", "--url", "http://127.0.0.1:9/data.json")
    assert not (home / "hosted-prices.json").exists()

"""`fettle release` over releases that are there already; making them is tested in tests/unit/releases."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from databases import fresh_store
from fettle.cli.release import app
from fettle.errors import ConfigError
from fettle.releases.changing import ReleaseRefusedError
from fettle.releases.records import ContenderKind, ReleasedContender, Router
from fettle.routing_records import RoutingRule
from fettle.settings import get_settings
from fettle.store.models import put_base_model
from fettle.store.opening import open_store
from fettle.store.release_tables import releases as releases_table
from kept_releases import FAILED, PASSED, keep_release
from tiny_models import save_tiny_model

pytestmark = pytest.mark.any_database


def run(*arguments: object) -> str:
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.output


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETTLE_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    with fresh_store(tmp_path / "home") as store:
        with store.writing() as connection:
            put_base_model(connection, "tiny", str(save_tiny_model(tmp_path / "tiny", "llama")))
        contender = ReleasedContender(kind=ContenderKind.PROMPT, model="tiny")
        keep_release(store, "triage", contender)
        keep_release(store, "triage", contender, FAILED)


def test_the_defaults_are_a_toml_file() -> None:
    assert tomllib.loads(run("gates"))["parity"]["num_answers"] == 60


def test_examples_that_must_pass_are_not_left_out_unsaid(tmp_path: Path) -> None:
    (tmp_path / "gates.toml").write_text("[must_pass]\non = false\n")
    files = ("--gates", tmp_path / "gates.toml", "--must-pass", tmp_path / "mine.jsonl")
    with pytest.raises(ConfigError, match="switches off must_pass"):
        run("create", "triage", "--study", tmp_path, *files)


@pytest.mark.usefixtures("releases")
def test_promoting_forcing_and_rolling_back_are_told_by_the_history(tmp_path: Path) -> None:
    assert "triage@1 answers to triage from now on (prompt: tiny)" in run("promote", "triage@1")
    with pytest.raises(ReleaseRefusedError, match="personal_data"):
        run("promote", "triage")
    with pytest.raises(ConfigError, match="for a reason"):
        run("promote", "triage", "--force")
    with pytest.raises(ConfigError, match="where a release is forced"):
        run("promote", "triage@1", "--reason", "it is better")
    run("promote", "triage", "--force", "--reason", "the old one is down")
    assert "triage@1 answers to triage again" in run("rollback", "triage", "--reason", "it leaks")
    told = run("history", "triage", "--chart", tmp_path / "chart.svg")
    assert [line.split()[2] for line in told.splitlines()[1:6]] == [
        "triage@1",
        "triage@2",
        "triage@1",
        "triage@2",
        "triage@1",
    ]
    assert "the old one is down" in told
    assert (tmp_path / "chart.svg").read_text().startswith("<svg")
    events = json.loads(run("history", "triage", "--json"))["content"]["events"]
    assert [event["kind"] for event in events] == ["created", "created", "promoted", "forced", "rolled back"]


@pytest.mark.usefixtures("releases")
def test_releases_are_listed_and_shown_with_their_evidence() -> None:
    assert "refused by personal_data" in run("list")
    shown = run("show", "triage@2")
    assert "2 of 60 answers hold personal data" in shown
    assert "chat template:" in shown
    document = json.loads(run("show", "triage", "--json"))
    assert document["format"] == "fettle-releases"
    assert document["content"]["number"] == 2  # none is in force: the newest
    for number in ("x", "0", "", "9" * 30, "-1"):
        with pytest.raises(ConfigError, match="a number after the @"):
            run("show", f"triage@{number}")


@pytest.mark.usefixtures("releases")
def test_the_history_does_not_take_a_name_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    run("promote", "triage", "--force", "--reason", "the old one is down")
    assert "somebody-else" not in run("history", "triage")


@pytest.mark.usefixtures("releases")
def test_a_project_that_is_not_there_is_not_made_by_asking_for_it() -> None:
    for _ in range(2):
        with pytest.raises(ConfigError, match="no project 'defualt'"):
            run("list", "--project", "defualt")


@pytest.mark.usefixtures("releases")
def test_a_router_is_shown_with_its_promise_and_its_limits(tmp_path: Path) -> None:
    router = Router(
        small=ReleasedContender(kind=ContenderKind.PROMPT, model="tiny"),
        large=ReleasedContender(kind=ContenderKind.REMOTE, model="large", url="https://models.example/v1"),
        rule=RoutingRule(measure="label_margin", threshold=0.25),
        policy_when_large_fails="answer_small",
        target=0.9,
        level=0.95,
        budget_per_day=25.0,
        large_cost_per_request=0.01,
    )
    with fresh_store(tmp_path / "home") as store:
        keep_release(store, "routed", router)
    shown = run("show", "routed")
    for line in (
        "routed@1: router: tiny, else large",
        "promised:       90.0% with 95.0% confidence",
        "large model:    large at https://models.example/v1",
        "trusted from:   0.25 (label_margin)",
        "without large:  answer_small, after 30 seconds",
        "budget:         25 a day, 0.01 for an answer",
    ):
        assert line in shown
    assert "promised:" not in run("show", "triage")


@pytest.mark.usefixtures("releases")
def test_a_changed_row_is_marked_among_the_others_and_ends_with_its_exit_code(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["list"]).exit_code == 0
    run("promote", "triage@1")
    with open_store().writing() as connection:
        first = releases_table.c.release_number == 1
        connection.execute(update(releases_table).where(first).values(evidence={"gates": []}))
    found = CliRunner().invoke(app, ["list"])
    assert found.exit_code == 1
    lines = {line.split()[0]: line for line in found.stdout.splitlines()}
    assert "in force" in lines["triage@1"]
    assert "changed since it was signed: not served" in lines["triage@1"]
    assert "refused by personal_data" in lines["triage@2"]
    assert "the release triage@1 was changed" in found.stderr
    listed = CliRunner().invoke(app, ["list", "--json"])
    assert listed.exit_code == 1
    changed, other = json.loads(listed.stdout)["content"]
    assert (changed["number"], changed["in_force"], changed["evidence"]) == (1, True, None)
    assert "was changed" in changed["problem"]
    assert (other["problem"], other["evidence"]["study"]) == (None, "tickets")
    told = CliRunner().invoke(app, ["history", "triage", "--json", "--chart", str(tmp_path / "chart.svg")])
    assert told.exit_code == 1
    content = json.loads(told.stdout)["content"]
    assert [event["kind"] for event in content["events"]] == ["created", "created", "promoted"]
    assert [one["problem"] is None for one in content["releases"]] == [False, True]
    assert "@2<" in (tmp_path / "chart.svg").read_text()


@pytest.mark.usefixtures("releases")
def test_what_gates_say_is_wrapped_and_cannot_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    shown = run("show", "triage@2")
    assert shown.splitlines()[1] == "1 of 1 gates refuse it: personal_data"
    assert shown.splitlines()[2] == "failed  personal_data: 2 of 60 answers hold personal data"
    long = replace(PASSED, sentence="\x1b[2J " + "as it was said " * 20)
    contender = ReleasedContender(kind=ContenderKind.PROMPT, model="tiny")
    keep_release(open_store(), "other", contender, long)
    shown = run("show", "other")
    assert "\x1b" not in shown
    gates = shown.splitlines()[2 : shown.splitlines().index("in force:       no")]
    assert any(line.startswith("switched off: win_rate_against_prompt") for line in gates)
    assert len(gates) > 3
    assert max(map(len, gates)) <= 70

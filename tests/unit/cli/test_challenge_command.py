"""`fettle release challenge`, `challenges`, `end-challenge`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from challenged import BASE, Challenged, challenged
from databases import fresh_store
from fettle.cli.main import app
from fettle.errors import ConfigError
from fettle.settings import get_settings
from tiny_models import save_tiny_model

pytestmark = pytest.mark.any_database


def run(*arguments: object) -> str:
    found = CliRunner().invoke(app, ["release", *map(str, arguments)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / BASE, "llama")


@pytest.fixture
def place(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Challenged]:
    monkeypatch.setenv("FETTLE_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    with fresh_store(tmp_path / "home") as store:
        yield challenged(store, base)
    get_settings.cache_clear()


def test_a_challenge_is_begun_shown_drawn_and_ended(place: Challenged, tmp_path: Path) -> None:
    told = run("challenge", "triage", "--with", 2, "--kind", "canary", "--share", 0.5, "--worse-by", 0.1)
    assert "triage@2 answers 0.5 of the conversations in place of triage@1." in told
    assert "`fettle release promote triage@2` is up to you" in told
    assert "keys keep" not in told
    empty = run("challenges", "triage", "--chart", tmp_path / "empty.svg")
    assert "no outcome yet" in empty
    assert "no outcome yet" in (tmp_path / "empty.svg").read_text()
    for number in range(4):  # five that are as different as can be might decide it
        place.say(place.answered(f"question {number}", {1: "other", 2: "billing"}), corrected="billing")
    shown = run("challenges", "triage", "--chart", tmp_path / "chart.svg")
    assert "triage@2 against triage@1: canary, share 0.5" in shown
    assert "runs" in shown
    drawn = (tmp_path / "chart.svg").read_text()
    assert drawn.startswith("<svg")
    assert "tolerated: -0.1" in drawn
    assert "not decided" in drawn
    assert "is over" in run("end-challenge", "triage", "--reason", "enough seen")
    [ended] = json.loads(run("challenges", "triage", "--json"))["content"]
    assert (ended["reason"], ended["decision"], ended["num_outcomes"]) == ("enough seen", None, 4)
    assert ended["terms"]["challenge"]["worse_by"] == 0.1
    assert ended["look"]["difference"]["low"] < ended["look"]["difference"]["estimate"]
    history = json.loads(run("history", "triage", "--json"))["content"]["events"]
    assert [one["kind"] for one in history[-2:]] == ["challenged", "challenge ended"]
    with pytest.raises(ConfigError, match="no challenge"):
        run("end-challenge", "triage")


def test_a_shadow_says_what_it_needs(place: Challenged) -> None:
    told = run("challenge", "triage", "--with", 2, "--kind", "shadow")
    assert "for right answers as well as for wrong ones" in told
    run("end-challenge", "triage")
    secret = "http://judge.example/v1?token=hidden"
    judged = run(
        "challenge", "triage", "--with", 2, "--kind", "shadow", "--judge-url", secret, "--judge-model", "j", "--act"
    )
    assert "j compares both answers" in judged
    assert "comes into force by itself" in judged
    assert "hidden" not in run("challenges", "triage", "--json")
    assert place.ask("anything").release is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--with", 2, "--kind", "both"), "no kind 'both'"),
        (("--with", 2, "--kind", "canary", "--share", 1), "share"),
        (("--with", 2, "--kind", "shadow", "--judge-url", "http://x/v1"), "go together"),
        (("--with", 2, "--kind", "shadow", "--rubric", "r.txt"), "no judge"),
        (("--with", 2, "--kind", "canary", "--better-by", -0.2), "both promoted and stopped"),
    ],
)
@pytest.mark.usefixtures("place")
def test_mistakes_are_told(arguments: tuple[object, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run("challenge", "triage", *arguments)


@pytest.mark.usefixtures("place")
def test_a_name_without_challenges(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="was challenged"):
        run("challenges", "triage", "--chart", tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()

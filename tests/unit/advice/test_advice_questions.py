from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fettle.advice.questions import QUESTIONS, Answers, Said, given_answers, read_answers, with_answers, with_money
from fettle.cli.advise_choices import SaidOption
from fettle.cli.ask_questions import ask_open_questions
from fettle.economics.assumptions import with_settings
from fettle.economics_records import Assumptions
from fettle.errors import ConfigError


def test_every_answer_has_its_question() -> None:
    assert [one.name for one in QUESTIONS] == list(Answers.__dataclass_fields__)
    assert [one.value for one in SaidOption] == [one.value for one in Said]


def test_a_file_answers(tmp_path: Path) -> None:
    path = tmp_path / "answers.toml"
    path.write_text('knowledge_changes = true\nlarge_model = "no"\nrequests_per_day = 2000\n')
    found = read_answers(path, Answers(latency_seconds=2.0))
    assert found == Answers(
        knowledge_changes=Said.YES, large_model=Said.NO, requests_per_day=2000.0, latency_seconds=2.0
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("knowledge_change = true", "did you mean `knowledge_changes`"),
        ('large_model = "perhaps"', "expected yes, no or unknown"),
        ("requests_per_day = 0", "expected a number above 0"),
        ("requests_per_day = true", "expected a number above 0"),
        ("latency_seconds = nan", "expected a number above 0"),
        ('cost_per_wrong_answer = "much"', "expected a number above 0"),
        ("requests_per_day = = 2", "no TOML"),
    ],
)
def test_what_is_no_answer_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "answers.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=problem):
        read_answers(path)
    with pytest.raises(ConfigError, match="cannot read"):
        read_answers(tmp_path / "none.toml")


def test_answers_go_over_what_is_assumed_of_money() -> None:
    said = with_settings(Assumptions(), ["traffic.requests_per_day=700", "currency=EUR"])
    given = given_answers(Answers(), said)
    assert (given["requests_per_day"].value, given["requests_per_day"].is_said) == ("700", True)
    assert (given["cost_per_wrong_answer"].value, given["cost_per_wrong_answer"].is_said) == ("unknown", False)
    answers = Answers(requests_per_day=50.0, cost_per_wrong_answer=0.5)
    given = given_answers(answers, with_money(answers, said))
    assert given["requests_per_day"].value == "50"
    assert given["cost_per_wrong_answer"].value == "0.50\N{NO-BREAK SPACE}EUR"
    assert not given_answers(Answers(), Assumptions())["requests_per_day"].is_said


def test_a_person_is_asked_what_is_open_and_again_where_it_is_no_answer() -> None:
    asked: list[Answers] = []
    app = typer.Typer()

    @app.command()
    def ask() -> None:
        before = with_answers(Answers(), {"knowledge_changes": "no"}, where="here")
        asked.append(ask_open_questions(before, {"knowledge_changes"}))

    found = CliRunner().invoke(app, [], input="y\n\nmany\n300\n\nunknown\n")
    assert found.exit_code == 0, found.output
    assert asked == [Answers(knowledge_changes=Said.NO, format_is_the_problem=Said.YES, requests_per_day=300.0)]
    assert "expected a number above 0" in found.output
    assert "facts that answers need" not in found.output
    assert "Form and tone are what tuning teaches best" in found.output

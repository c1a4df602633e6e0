"""`fettle vote` by its words: results, and every mistake with its remedy."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fettle.cli.vote import vote
from fettle.errors import ConfigError, DataError, FettleError
from fettle.report_records import StudyReport
from fettle.study.report import print_report
from fettle.votes.records import Choice
from fettle.votes.vote_file import append_record
from voting import answer_row, poll_of, rows_that_differ, study_report, vote_for

app = typer.Typer()
app.command()(vote)
ROWS = [*rows_that_differ(8), answer_row(8, "same", "same"), answer_row(9, "", "x", failed="tuned")]


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*words: object) -> FettleError:
    with pytest.raises(FettleError) as caught:
        run(*words)
    assert caught.value.remedy
    return caught.value


def study_in(folder: Path, report: StudyReport | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(print_report(report or study_report(ROWS)), encoding="utf-8")
    return folder


@pytest.fixture
def voted(tmp_path: Path) -> Path:
    """Ada voted on all eight, six for the tuned model and two ties; Bob on two, one of them skipped."""
    folder, poll = study_in(tmp_path / "study"), poll_of(ROWS)
    ids = [one.example_id for one in poll.asked]
    for place, example_id in enumerate(ids):
        append_record(folder / "votes.jsonl", vote_for(poll, "tuned" if place < 6 else None, example_id))
    append_record(folder / "votes.jsonl", vote_for(poll, "tuned", ids[0], rater="Bob"))
    append_record(folder / "votes.jsonl", vote_for(poll, None, ids[1], rater="Bob", choice=Choice.SKIP))
    return folder


def test_results_as_a_table(voted: Path) -> None:
    said = run(voted, "--results")
    assert said.startswith("Tuned wins over Prompt in 83.3 % (95 % interval ")  # (6 + 3 / 2) / 9
    assert "of 9 examples, 1 of them ties because both answers are equal. Ties count as half." in said
    cells = {line.split()[0]: line.split() for line in said.splitlines() if line.strip()}
    assert cells["Ada"][1:7] == ["8", "6", "0", "2", "0", "0"]
    assert cells["Bob"][1:7] == ["1", "1", "0", "0", "0", "1"]
    assert cells["all"][1:7] == ["9", "7", "0", "2", "0", "1"]


def test_agreement_is_told_once_people_have_voted_on_the_same(voted: Path) -> None:
    assert "Nothing can be said of agreement: all votes say the same." in run(voted, "--results")
    poll = poll_of(ROWS)
    for one in poll.asked[1:]:
        append_record(voted / "votes.jsonl", vote_for(poll, "prompt", one.example_id, rater="Bob"))
    assert "Agreement on the 8 examples with votes of two people or more: Krippendorff's alpha -0." in run(
        voted, "--results"
    )


def test_results_as_json_of_one_rater(voted: Path) -> None:
    found = json.loads(run(voted / "report.json", "--results", "--json", "--rater", "Bob"))
    assert found["contenders"] == {"challenger": "tuned", "baseline": "prompt"}
    assert [one["rater"] for one in found["raters"]] == ["Bob"]
    assert found["win_rate"]["low"] <= found["win_rate"]["estimate"] <= found["win_rate"]["high"]


def test_two_other_contenders_have_votes_of_their_own(voted: Path) -> None:
    assert "Nobody has voted on Few Shot and Prompt yet." in run(voted, "--results", "--between", "few_shot", "prompt")


def test_votes_on_an_earlier_run_are_told_of(voted: Path) -> None:
    changed = [replace(row, answers={**row.answers, "prompt": "new"}) for row in ROWS]
    study_in(voted, study_report(changed))
    assert "10 votes are not counted" in run(voted, "--results")


def test_a_report_without_clusters_is_said_to_be_one(tmp_path: Path) -> None:
    rows = [answer_row(i, "a", "b", cluster=None) for i in range(3)]
    folder = study_in(tmp_path / "old", study_report(rows))
    append_record(folder / "votes.jsonl", vote_for(poll_of(rows), "tuned", "row-1"))
    assert "did not keep which examples belong together" in run(folder, "--results")


def test_results_leave_no_trace(tmp_path: Path) -> None:
    folder = study_in(tmp_path / "study")
    assert "Nobody has voted" in run(folder, "--results")
    assert [path.name for path in folder.iterdir()] == ["report.json"]


def test_results_are_shown_on_the_reports_page_too(voted: Path) -> None:
    run(voted, "--results", "--rater", "Bob")
    page = (voted / "report.html").read_text(encoding="utf-8")
    assert 'id="people"' in page
    assert "on 8\u00a0examples" in page, "everybody's votes, whoever was asked about"


def test_a_page_that_cannot_be_written_does_not_keep_the_results_back(voted: Path) -> None:
    (voted / "report.html").mkdir()
    said = run(voted / "report.json", "--results")
    assert said.startswith("Tuned wins over Prompt in 83.3 %")
    assert "The report's page does not show these votes, for it could not be written anew: " in said


def test_what_is_no_finished_study(tmp_path: Path) -> None:
    assert "no such study" in str(refused(tmp_path / "missing"))
    assert "no report.json here" in str(refused(tmp_path))
    (tmp_path / "study.json").write_text("{}")
    assert "not finished" in str(refused(tmp_path))
    (tmp_path / "report.html").write_text("<html>")
    assert "report.json: there is no such study" in str(refused(tmp_path / "report.html"))
    (tmp_path / "notes.txt").write_text("notes")
    assert "a study report is JSON" in str(refused(tmp_path / "notes.txt"))


def test_a_study_is_named_by_its_folder_or_either_report(voted: Path) -> None:
    said = [run(path, "--results") for path in (voted, voted / "report.json", voted / "report.html")]
    assert said[0] == said[1] == said[2]


def test_a_study_without_answers_or_without_a_comparison(tmp_path: Path) -> None:
    assert isinstance(refused(study_in(tmp_path / "empty", study_report([]))), DataError)
    report = replace(study_report(ROWS), comparisons=())
    assert "name two of tuned, prompt, few_shot" in str(refused(study_in(tmp_path / "one", report)).remedy)
    same = study_report([answer_row(i, "same", "same") for i in range(3)])
    assert "the same answer to all 3 examples" in str(refused(study_in(tmp_path / "same", same)))


def test_contenders_and_options_that_are_not_there(voted: Path) -> None:
    assert "choose two of tuned" in str(refused(voted, "--between", "tuned", "nobody"))
    assert "add --results" in str(refused(voted, "--json"))
    assert "1 to 64 characters" in str(refused(voted, "--rater", " "))


def test_a_port_that_is_taken(voted: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        error = refused(voted, "--port", taken.getsockname()[1])
    assert isinstance(error, ConfigError)
    assert "choose another port" in str(error.remedy)

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from judged_studies import StandIn, fair, random_study

from fettle.errors import ConfigError, DataError
from fettle.judging.compare import Judge, judge_study
from fettle.judging.document import keep_judged, read_judged
from fettle.judging.rubric import MOST_CHARACTERS, Rubric, derived_rubric, read_rubric
from fettle.judging.settings import JudgeSettings
from fettle.records import TaskKind


@pytest.fixture
def judged(tmp_path: Path):
    judge = Judge(engine=StandIn(fair(1.0)), rubric=Rubric(text="Be right.", origin="the test"))
    return judge_study(random_study(30, seed=1), judge, JudgeSettings(repeats=2), folder=tmp_path)


def test_what_is_kept_is_read_back_and_the_newest_of_a_kind_alone(tmp_path: Path, judged) -> None:
    file = keep_judged(judged, tmp_path)
    assert read_judged(file) == [judged]
    other = replace(judged, judge="another")
    keep_judged(other, tmp_path)
    newer = replace(judged, sample=7)
    keep_judged(newer, tmp_path)
    assert read_judged(file) == [other, newer]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-20], "no judgements can be read here"),
        (lambda text: text.replace("fettle-judged", "x"), "does not start with"),
        (
            lambda text: text.replace('"format_version": 1', '"format_version": 9'),
            "format version 9; this Fettle reads",
        ),
        (lambda text: text.replace('"num_wins"', '"num_won"'), "damaged at `0.num_wins`"),
    ],
)
def test_a_damaged_file_is_refused_with_a_remedy_and_left_alone(tmp_path: Path, judged, change, message: str) -> None:
    file = keep_judged(judged, tmp_path)
    file.write_text(change(file.read_text()))
    before = file.read_text()
    with pytest.raises(DataError, match=rf"(?s){message}.*Remedy: delete judged\.json"):
        keep_judged(judged, tmp_path)
    assert file.read_text() == before


def test_the_document_says_what_it_is(tmp_path: Path, judged) -> None:
    document = json.loads(keep_judged(judged, tmp_path).read_text())
    assert (document["format"], document["format_version"]) == ("fettle-judged", 1)
    [comparison] = document["comparisons"]
    assert comparison["rubric"] == "Be right."
    assert len(comparison["pairs"]) == 30
    assert comparison["pairs"][0]["replies"][0]["pick"] in ("first", "second", "tie")


def test_a_rubric_of_the_user_is_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "rubric.txt"
    file.write_bytes(b"\xef\xbb\xbfShort wins.\n")
    assert read_rubric(file) == Rubric(text="Short wins.", origin="given by the user (rubric.txt)")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b" \n", "the rubric is empty"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"a" * (MOST_CHARACTERS + 1), "20,001"),
    ],
)
def test_a_rubric_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "rubric.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"--rubric .*rubric.txt: .*{message}"):
        read_rubric(file)


def test_the_house_style_of_the_wanted_answers_becomes_the_rubric() -> None:
    report = random_study(40, seed=2)
    styled = replace(
        report,
        rows=tuple(
            replace(row, wanted=f"Ahoy friend,\n\nyour parcel {row.example_id} is near.\n\nFair winds")
            for row in report.rows
        ),
    )
    rubric = derived_rubric(styled)
    assert 'fair winds"' in rubric.text
    assert "habits of the wanted answers" in rubric.origin
    for other in (
        replace(styled, rows=styled.rows[:5]),
        replace(styled, task=replace(styled.task, kind=TaskKind.JSON)),
    ):
        plain = derived_rubric(other)
        assert "house style" not in plain.text
        assert "no house style was found" in plain.origin

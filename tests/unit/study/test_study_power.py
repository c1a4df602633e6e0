"""What a test split can show is said at check time as in the plan and the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from build_report import label_report
from fettle.examples.check import Part
from fettle.examples.read import read_examples
from fettle.examples.task import recognise_task
from fettle.records import Dataset, Task
from fettle.report_records import DetectableDifference
from fettle.statistics.detectable import detectable_difference
from fettle.study.page import render_page
from fettle.study.power import expected_power, power_lines, power_of
from fettle.study.prepare import prepare
from fettle.study.report import parse_report, print_report
from fettle.study.settings import StudySettings

WORDS = ["parcel", "lamp", "chair", "table", "vase", "book", "shoe", "coat", "ring", "rug"]


def rows(start: int, end: int) -> str:
    lines = [
        {
            "prompt": f"{WORDS[n % 10]} {n * n} broke after {n**3} days in {WORDS[n % 7]} {n * 7919}",
            "completion": "ab"[n % 2],
        }
        for n in range(start, end)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def read(folder: Path, name: str, start: int, end: int) -> tuple[Path, Dataset, Task]:
    file = folder / f"{name}.jsonl"
    file.write_text(rows(start, end))
    dataset = read_examples(file)
    return file, dataset, recognise_task(dataset.examples)


def test_check_says_of_a_file_what_a_study_would_say_of_its_own_split(tmp_path: Path) -> None:
    file, dataset, task = read(tmp_path, "all", 0, 80)
    studied = prepare(StudySettings(examples=file)).split
    assert expected_power({Part.WHOLE: dataset}, task) == power_of(studied, is_binary=True)
    assert len(studied.test) == 20


def test_a_later_look_finds_less_and_needs_more(tmp_path: Path) -> None:
    file, _, _ = read(tmp_path, "all", 0, 80)
    split = prepare(StudySettings(examples=file)).split
    first, second = (power_of(split, is_binary=True, level=level) for level in (0.95, 0.975))
    assert second.of_scores.smallest_difference > first.of_scores.smallest_difference
    assert second.smallest_win_rate > first.smallest_win_rate
    assert second.rows_needed[0].num_for_scores > first.rows_needed[0].num_for_scores
    assert second.of_scores.alpha == pytest.approx(0.025)


def test_given_files_are_counted_as_a_study_would(tmp_path: Path) -> None:
    _, train, task = read(tmp_path, "train", 0, 40)
    _, test, _ = read(tmp_path, "test", 50, 80)
    found = expected_power({Part.TRAINING: train, Part.TEST: test}, task)
    assert found is not None
    assert found.of_scores.num_examples == 30


def test_what_a_study_would_refuse_can_show_nothing(tmp_path: Path) -> None:
    _, few, task = read(tmp_path, "few", 0, 12)
    assert expected_power({Part.WHOLE: few}, task) is None
    assert expected_power({Part.TRAINING: few, Part.VALIDATION: few}, task) is None


def test_clusters_make_it_harder() -> None:
    alone = detectable_difference(100, range(100), is_binary=True)
    together = detectable_difference(100, [n // 5 for n in range(100)], is_binary=True)
    assert together.smallest_win_rate > alone.smallest_win_rate
    assert together.of_scores.smallest_difference > alone.of_scores.smallest_difference


@pytest.fixture
def of_200() -> DetectableDifference:
    return detectable_difference(200, range(200), is_binary=True)


def test_the_lines_name_scores_win_rates_and_what_5_and_3_points_take(of_200: DetectableDifference) -> None:
    lines = {title: text.replace("\u00a0", " ") for title, text in power_lines(of_200)}
    assert lines["The test split"].startswith(
        "200 examples can show a difference of 9.9 points or more, and a win rate of 58.5 % or more (80 % power, 5 % two-sided"
    )
    assert lines["To show 5 points"] == "783 test examples; 587 for a win rate of 55 %"
    assert lines["To show 3 points"] == "2,179 test examples; 1,634 for a win rate of 53 %"


def test_the_page_names_them_too() -> None:
    page = render_page(label_report()).replace("\u00a0", " ").replace("&nbsp;", " ")
    assert "or a win rate of 55.4 %" in page
    assert "783 test examples; 587 for a win rate of 55 %" in page
    assert "2,179 test examples; 1,634 for a win rate of 53 %" in page


def test_a_report_of_an_older_version_is_read_and_shown_without_them() -> None:
    document = json.loads(print_report(label_report(num_rows=30)))
    del document["smallest_win_rate"], document["rows_needed"]
    report = parse_report(json.dumps(document), where="memory")
    assert (report.smallest_win_rate, report.rows_needed) == (None, ())
    assert "or a win rate of" not in render_page(report)

"""report.json: written whole, read back the same, and refused clearly when it is anything else."""

import json
import math
from dataclasses import replace

import pytest
from build_report import ALL, label_report, untrained_report

from fettle.errors import ConfigError, DataError, IntegrityError
from fettle.study.report import FORMAT_VERSION, parse_report, print_report, read_report, write_report


@pytest.mark.parametrize("name", ALL)
def test_reading_gives_back_what_was_written(name, tmp_path):
    report = ALL[name]()
    paths = write_report(report, tmp_path / "new" / "folder")
    assert read_report(paths.json) == report
    assert sorted(path.name for path in paths.json.parent.iterdir()) == ["report.html", "report.json"]


def test_the_same_report_gives_the_same_files(tmp_path):
    first, second = (write_report(untrained_report(), tmp_path / name) for name in ("a", "b"))
    assert first.html.read_bytes() == second.html.read_bytes()
    assert first.json.read_bytes() == second.json.read_bytes()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_figure_that_is_no_number_is_refused_by_name_and_nothing_is_written(bad, tmp_path):
    report = label_report(num_rows=20)
    broken = replace(report, comparisons=(replace(report.comparisons[0], p_value=bad), *report.comparisons[1:]))
    with pytest.raises(IntegrityError, match=r"report\.comparisons\[0\]\.p_value"):
        write_report(broken, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_half_a_surrogate_pair_in_an_answer_does_not_stop_the_report(tmp_path):
    report = untrained_report()
    report = replace(report, rows=(replace(report.rows[0], wanted="smile \ud83d", input_text="\ud800"),))
    paths = write_report(report, tmp_path)
    assert read_report(paths.json).rows[0].wanted == "smile ?"


def test_a_folder_that_cannot_be_made_is_the_users_to_mend(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises((ConfigError, OSError)):
        write_report(untrained_report(), tmp_path / "taken" / "below")


@pytest.mark.parametrize(
    ("version", "remedy"),
    [(FORMAT_VERSION + 1, "update Fettle"), (0, "run the study again"), (None, "run the study again")],
)
def test_another_format_version_is_refused_with_its_remedy(version, remedy):
    document = json.loads(print_report(untrained_report())) | {"format_version": version}
    with pytest.raises(DataError, match=remedy):
        parse_report(json.dumps(document), where="report.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"text"', '{"format": "another"}', '{"format": NaN}'])
def test_something_that_is_no_report_is_refused(text):
    with pytest.raises(DataError, match=r"old/report\.json"):
        parse_report(text, where="old/report.json")


def test_a_damaged_report_names_the_place():
    document = json.loads(print_report(untrained_report()))
    document["contenders"][1]["resources"]["seconds_per_request"] = "soon"
    with pytest.raises(DataError, match=r"contenders\.1\.resources\.seconds_per_request"):
        parse_report(json.dumps(document), where="report.json")


def test_a_missing_file_and_a_binary_file_are_refused(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("nowhere", "binary"):
        with pytest.raises(DataError, match=name):
            read_report(tmp_path / name)

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fettle.errors import ConfigError
from fettle.files import append_json_lines, sha256_of_json
from fettle.study.looks import Looks, count_look, require_countable


def look(home: Path, questions: str, study: str) -> Looks:
    return count_look(home, test_sha256=[sha256_of_json(question) for question in questions], study_key=study)


def test_every_study_has_its_number_among_those_that_looked_at_a_question(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert look(home, "tu", "a") == Looks(1, 1)
    assert look(home, "tu", "a") == Looks(1, 1), "the same study, continued"
    assert look(home, "uv", "b") == Looks(2, 2), "another test split that shares a question"
    assert look(home, "xyz", "c") == Looks(1, 1), "questions that nobody has looked at"
    assert look(home, "vx", "d") == Looks(3, 3)
    assert look(home, "tu", "a") == Looks(1, 2), "it is still the first, and another one has looked since"


def test_a_line_cut_by_a_kill_costs_that_look_alone(tmp_path: Path) -> None:
    for key in "abc":
        look(tmp_path, "t", key)
    file = tmp_path / "looks.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    assert look(tmp_path, "t", "d") == Looks(3, 3)
    assert look(tmp_path, "t", "c") == Looks(4, 4)
    assert look(tmp_path, "t", "b") == Looks(2, 4)


def test_rows_of_an_earlier_version_do_not_end_a_study(tmp_path: Path) -> None:
    append_json_lines(tmp_path / "looks.jsonl", [{"test_sha256": "t", "study_key": "a", "at": "2026-11-23"}])
    assert look(tmp_path, "t", "a") == Looks(1, 1)


def test_studies_that_look_at_the_same_time_all_count(tmp_path: Path) -> None:
    with ThreadPoolExecutor(max_workers=8) as pool:
        found = list(pool.map(lambda number: look(tmp_path, "t", str(number)), range(8)))
    assert sorted(one.number for one in found) == list(range(1, 9))


def test_a_home_that_cannot_be_written_is_found_out_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigError):
        require_countable(tmp_path / "file" / "home")
    require_countable(tmp_path / "home")
    assert look(tmp_path / "home", "t", "s") == Looks(1, 1)

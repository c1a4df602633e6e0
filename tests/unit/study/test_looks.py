from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fettle.errors import ConfigError
from fettle.study.looks import count_look, require_countable


def test_every_study_has_its_number_among_those_that_looked_at_a_question(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert count_look(home, test_sha256="tu", study_key="a") == 1
    assert count_look(home, test_sha256="tu", study_key="a") == 1, "the same study, continued"
    assert count_look(home, test_sha256="uv", study_key="b") == 2, "another test split that shares a question"
    assert count_look(home, test_sha256="xyz", study_key="c") == 1, "questions that nobody has looked at"
    assert count_look(home, test_sha256="vx", study_key="d") == 3
    assert count_look(home, test_sha256="tu", study_key="a") == 1, "run again later, it is still the first"


def test_a_line_cut_by_a_kill_costs_that_look_alone(tmp_path: Path) -> None:
    for key in "abc":
        count_look(tmp_path, test_sha256="t", study_key=key)
    file = tmp_path / "looks.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    assert count_look(tmp_path, test_sha256="t", study_key="d") == 3
    assert count_look(tmp_path, test_sha256="t", study_key="c") == 4
    assert count_look(tmp_path, test_sha256="t", study_key="b") == 2


def test_studies_that_look_at_the_same_time_all_count(tmp_path: Path) -> None:
    with ThreadPoolExecutor(max_workers=8) as pool:
        counts = pool.map(lambda number: count_look(tmp_path, test_sha256="t", study_key=str(number)), range(8))
    assert sorted(counts) == list(range(1, 9))


def test_a_home_that_cannot_be_written_is_found_out_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigError):
        require_countable(tmp_path / "file" / "home")
    require_countable(tmp_path / "home")
    assert count_look(tmp_path / "home", test_sha256="t", study_key="s") == 1

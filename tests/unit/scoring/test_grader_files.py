from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fettle.errors import ConfigError
from fettle.scoring.grader_files import grader_reference, read_grader_file, require_known_variables
from grading import string_check


def written(folder: Path, text: Any) -> Path:
    file = folder / "strict.json"
    file.write_text(text if isinstance(text, str) else json.dumps(text))
    return file


def refused(file: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_grader_file(file)
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("chrf", "chrf"),
        ("@chrf", Path("chrf")),
        ("./chrf", Path("chrf")),
        ("strict.json", Path("strict.json")),
        ("@ strict.json", Path("strict.json")),
        (Path("chrf"), Path("chrf")),
    ],
)
def test_a_name_is_built_in_and_everything_else_is_a_file(text: str | Path, meant: str | Path) -> None:
    assert grader_reference(text) == meant


@pytest.mark.parametrize("text", ["", "@", "@ "])
def test_an_empty_name_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="the name of the grader is empty"):
        grader_reference(text)


def test_the_hash_is_of_what_it_says_and_not_of_how_it_is_written(tmp_path: Path) -> None:
    first = read_grader_file(written(tmp_path, string_check()))
    again = read_grader_file(written(tmp_path, "\ufeff" + json.dumps(string_check(), indent=4)))
    other = read_grader_file(written(tmp_path, string_check(operation="like")))
    assert (first.grader.kind, first.grader.name) == ("string_check", "check")
    assert first.sha256 == again.sha256 != other.sha256


def test_what_is_no_json_is_told_with_its_line(tmp_path: Path) -> None:
    error = refused(written(tmp_path, '{"type": "string_check",\n "name": "x" "input": 3}'))
    assert error.where == f"{tmp_path / 'strict.json'}:2"
    assert "Expecting ',' delimiter (column 14)" in error.problem


def test_what_is_no_grader_is_told_with_its_file_and_place(tmp_path: Path) -> None:
    error = refused(written(tmp_path, string_check(operation="regex")))
    assert error.where == f"{tmp_path / 'strict.json'}: grader.operation"
    assert refused(written(tmp_path, [1])).where == f"{tmp_path / 'strict.json'}: grader"
    deep = "[" * 200_000 + "]" * 200_000
    assert "nested too deeply" in refused(written(tmp_path, deep)).problem


def test_a_file_that_is_not_there_is_told_from_a_name_that_is_none(tmp_path: Path) -> None:
    assert refused(Path("exct_label")).problem == "there is no grader called 'exct_label', and no file of that name"
    assert "did you mean 'exact_label'?" in str(refused(Path("exct_label")).remedy)
    assert "exact_label" in str(refused(Path("zzz")).remedy)
    assert refused(tmp_path / "gone.json").problem == "there is no such file"
    assert "Is a directory" in refused(tmp_path).problem


def test_what_no_example_has_is_named_with_what_there_is(tmp_path: Path) -> None:
    grader = read_grader_file(written(tmp_path, string_check(text="{{item.messages[2].content}}"))).grader
    items = [{"answer": "a", "messages": [{}]}, {"answer": "b", "messages": [{}, {}, {"content": "c"}]}]
    require_known_variables(grader, items, where="strict.json")
    with pytest.raises(
        ConfigError, match=r"it reads item.messages\[2\].content, which no example of a study has"
    ) as caught:
        require_known_variables(grader, items[:1], where="strict.json")
    assert "item.reference_answer" in str(caught.value.remedy)

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fettle.errors import ConfigError, StudyConflictError
from fettle.study.workspace import refuse_foreign, workspace


def leave(folder: Path, *, key: str = "k", fresh: bool = False, names: tuple[str, ...] = ()) -> None:
    with workspace(folder, key=key, fresh=fresh) as inside:
        assert inside == folder
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)


def visible(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_new_folder_is_made_and_the_same_study_finds_its_files_again(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet" / "there"
    leave(folder, names=("answers/a.jsonl",))
    leave(folder)
    assert visible(folder) == {"study.json", "answers/a.jsonl"}


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    leave(tmp_path)
    assert visible(tmp_path) == {"study.json"}


def test_another_study_is_refused_and_stays(tmp_path: Path) -> None:
    leave(tmp_path, names=("report.json",))
    with pytest.raises(StudyConflictError, match=r"other data or with other settings.*--fresh"):
        leave(tmp_path, key="another")
    assert visible(tmp_path) == {"study.json", "report.json"}


def test_fresh_removes_what_a_study_leaves_and_nothing_else(tmp_path: Path) -> None:
    leave(
        tmp_path,
        names=("answers/a.jsonl", "training/events.jsonl", "report.html", "mine/notes.txt", "mine.txt", "votes.jsonl"),
    )
    leave(tmp_path, key="another", fresh=True)
    assert visible(tmp_path) == {"study.json", "mine/notes.txt", "mine.txt", "votes.jsonl"}
    leave(tmp_path, key="another")


def test_a_folder_is_used_by_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        workspace(tmp_path, key="k", fresh=False),
        pytest.raises(StudyConflictError, match=r"another process \(process \d+\) is working on this study"),
    ):
        leave(tmp_path)
    leave(tmp_path)  # and by the next one when it is done


@pytest.mark.parametrize(
    "identity", [None, "", "{", "[]", "3", '{"key": "k"}', json.dumps({"format": "other", "key": "k"})]
)
@pytest.mark.parametrize("fresh", [False, True])
def test_files_of_others_are_never_touched(tmp_path: Path, identity: str | None, *, fresh: bool) -> None:
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "thesis.txt").write_text("mine")
    if identity is not None:
        (tmp_path / "study.json").write_text(identity)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StudyConflictError, match="not empty and holds no study"):
        leave(tmp_path, fresh=fresh)
    assert sorted(tmp_path.rglob("*")) == before, "not even a lock"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyConflictError, match="a file, not a folder"):
        leave(tmp_path / "file")
    with pytest.raises(ConfigError, match=r"cannot write here \(Not a directory\)"):
        refuse_foreign(tmp_path / "file" / "below")
    with pytest.raises(ConfigError, match="cannot write here"):
        leave(tmp_path / "file" / "below")


def test_looking_leaves_no_trace(tmp_path: Path) -> None:
    refuse_foreign(tmp_path / "new")
    refuse_foreign(tmp_path)
    assert list(tmp_path.iterdir()) == []

from __future__ import annotations

import hashlib
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fettle.errors import ConfigError, DiskFullError
from fettle.files import (
    append_json_lines,
    iter_files,
    peek_json_lines,
    read_json_lines,
    sha256_of_file,
    sha256_of_json,
    write_atomically,
    write_json_lines,
)
from fettle.training.checkpoint import Progress, load_checkpoint, save_checkpoint


@contextmanager
def disk_with(num_bytes: int) -> Iterator[None]:
    """No file may grow above `num_bytes`: the nearest to a full disk that needs no privilege."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "file"
    write_atomically(file, "first")
    write_atomically(file, b"\xffsecond")
    assert file.read_bytes() == b"\xffsecond"
    assert list(file.parent.iterdir()) == [file]
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomically(file, "old")
    with disk_with(1000), pytest.raises(DiskFullError, match="the disk is full"):
        write_atomically(file, "x" * 10_000)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write here"):
        write_atomically(tmp_path / "file" / "below", "x")


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"a": 1, "b": [None, 2.5]}, {"text": "line\nbreak \u2028 é \x00"}, {}]
    assert read_json_lines(file) == []
    append_json_lines(file, rows[:2])
    append_json_lines(file, rows[2:])
    assert read_json_lines(file) == rows
    write_json_lines(file, rows[1:])
    assert read_json_lines(file) == rows[1:]


@pytest.mark.parametrize("num_bytes_kept", range(1, 20))
def test_a_line_cut_by_a_kill_is_removed_and_the_next_append_starts_clean(tmp_path: Path, num_bytes_kept: int) -> None:
    file = tmp_path / "rows.jsonl"
    append_json_lines(file, [{"n": 1}, {"n": "two"}])
    file.write_bytes(file.read_bytes()[:num_bytes_kept])
    kept = [] if num_bytes_kept < 9 else [{"n": 1}]
    assert read_json_lines(file) == kept
    append_json_lines(file, [{"n": 3}])
    assert read_json_lines(file) == [*kept, {"n": 3}]


def test_appending_on_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    append_json_lines(file, [{"n": 1}])
    with disk_with(500), pytest.raises(DiskFullError):
        append_json_lines(file, [{"text": "x" * 10_000}])
    assert read_json_lines(file) == [{"n": 1}]


def test_what_json_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    append_json_lines(file, [{"n": 1}])
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_json_lines(file, [{"n": 2}, {"n": float("nan")}])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_lines(file, [{"n": float("inf")}])
    assert read_json_lines(file) == [{"n": 1}]


def test_a_checkpoint_that_does_not_fit_leaves_the_last_one(tmp_path: Path) -> None:
    import torch

    save_checkpoint(tmp_path, Progress(run_key="k", step=1), {"weight": torch.zeros(4)})
    with disk_with(5000), pytest.raises(DiskFullError):
        save_checkpoint(tmp_path, Progress(run_key="k", step=2), {"weight": torch.zeros(10_000)})
    found = load_checkpoint(tmp_path, "k")
    assert found is not None
    assert found[0].step == 1
    save_checkpoint(tmp_path, Progress(run_key="k", step=2), {"weight": torch.zeros(10_000)})
    found = load_checkpoint(tmp_path, "k")
    assert found is not None
    assert found[0].step == 2


def test_hashes_are_those_of_the_bytes_and_of_the_canonical_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()
    assert sha256_of_json({"b": 1, "a": "é"}) == hashlib.sha256('{"a":"é","b":1}'.encode()).hexdigest()
    assert sha256_of_json({"a": "é", "b": 1}) == sha256_of_json({"b": 1, "a": "é"})
    with pytest.raises(ValueError, match="not JSON compliant"):
        sha256_of_json(float("nan"))


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    for name in ("b/2.csv", "b/.hidden", ".git/config", "a.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert [path.relative_to(tmp_path).as_posix() for path in iter_files(tmp_path)] == ["a.csv", "b/2.csv"]


def test_a_look_at_json_lines_leaves_a_cut_line_alone(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    assert peek_json_lines(file) == []
    file.write_text('{"a": 1}\n{"a": ')
    assert peek_json_lines(file) == [{"a": 1}]
    assert file.read_text() == '{"a": 1}\n{"a": '
    assert read_json_lines(file) == [{"a": 1}]
    assert file.read_text() == '{"a": 1}\n'
